#!/bin/sh
# Runs the tests in a stock interpreter with the runtime built for sanitizers:
#
#   tests/sanitize.sh address,undefined
#   tests/sanitize.sh thread                 # several interpreters at once
#
# In a folder of its own with LiteRT alone, since TensorFlow does not run below AddressSanitizer. Needs GCC and Python.
# What leaks is looked for by the fuzzer; Python itself keeps too much for it.
set -eu
cd "$(dirname "$0")/.."
kind=$1
shift
folder=build-sanitize/$(echo "$kind" | tr , -)
python=${PYTHON:-python3}
[ -d build-sanitize/venv ] || "$python" -m venv build-sanitize/venv
build-sanitize/venv/bin/python -m pip install --quiet ai-edge-litert pytest hypothesis flatbuffers 'numpy<2'
build-sanitize/venv/bin/python -m pip install --quiet --no-deps --upgrade --target "$folder" \
    -C cmake.define.LARQ_SKS_SANITIZE="$kind" -C install.strip=false .

case $kind in
thread)
    preload=$(gcc -print-file-name=libtsan.so)
    set -- tests/test_interpreters.py -k "parallel or threads" "$@"
    ;;
*)
    preload="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
    ;;
esac
LD_PRELOAD="$preload" PYTHONPATH="$folder" PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=1 \
    build-sanitize/venv/bin/python -m pytest -q -p no:cacheprovider "$@"
