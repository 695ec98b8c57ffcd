// Sets the equations that pymdownx.arithmatex marked, as \(…\) and \[…\].
for (const place of document.querySelectorAll(".arithmatex")) {
  const source = place.textContent.trim().slice(2, -2);
  katex.render(source, place, { displayMode: place.tagName === "DIV", strict: "error" });
}
