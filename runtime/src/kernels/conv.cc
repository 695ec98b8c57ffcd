// A convolution: weights are packed once, the geometry once a shape.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "../threads.h"
#include "buffer.h"
#include "codewords.h"
#include "cost.h"
#include "plan.h"

namespace larq_sks {
namespace {

constexpr int kSlack = 64;   // elements behind arrays, which vectors read
constexpr size_t kMaxScratch = size_t{1} << 28;   // bytes for all threads, if it takes more than one
constexpr double kWorthAThread = 20000;   // nanoseconds of work; to hand over less takes as long as to do it

int divide_up(int a, int b) { return a / b + (a % b != 0); }

// One dimension of the window's way over the input.
struct Axis {
  int out = 0, before = 0;   // outputs, and padding before the input
  int64_t padded = 0;        // input and padding, as far as a window reaches
};

Axis make_axis(int in, int kernel, int stride, int dilation, bool same) {
  Axis axis;
  const int64_t extent = static_cast<int64_t>(kernel - 1) * dilation + 1;
  if (same) {
    axis.out = divide_up(in, stride);
    const int64_t total = std::max<int64_t>(0, static_cast<int64_t>(axis.out - 1) * stride + extent - in);
    axis.before = static_cast<int>(std::min<int64_t>(total / 2, std::numeric_limits<int>::max()));
  } else {
    axis.out = in < extent ? 0 : static_cast<int>((in - extent) / stride + 1);
  }
  axis.padded = std::max(static_cast<int64_t>(axis.out - 1) * stride + extent, static_cast<int64_t>(in) + axis.before);
  return axis;
}

// Bit k: the window's tap k is outside.
uint32_t outside(int out, const Axis& axis, int in, int kernel, int stride, int dilation) {
  uint32_t mask = 0;
  for (int k = 0; k < kernel; k++) {
    const int64_t at = static_cast<int64_t>(out) * stride - axis.before + static_cast<int64_t>(k) * dilation;
    if (at < 0 || at >= in) mask |= uint32_t{1} << k;
  }
  return mask;
}

}  // namespace

struct Conv::Impl {
  Impl(const ConvSpec& layer, Isa isa, Algorithm algorithm);
  bool resize(int batch, int height, int width, int threads);
  void run(const uint32_t* input, void* output, ThreadPool* pool, const Tail& tail);

  ConvSpec spec;   // of its pointers only `filter` is used after the constructor, until it is packed, and points to ours
  Isa isa;
  Algorithm algorithm;
  const Kernel* kernel;
  bool may_share = false;
  bool shared = false;   // as the first shape asks for
  int words, group_words;
  Codewords codewords;   // of a 3x3 filter with one group
  Plan plan{};

  Buffer<uint32_t> filter, weights;
  std::vector<Block> blocks;
  std::vector<int32_t> tap_popcounts;   // [tap][output channel], for zero padding
  Buffer<float> multiplier, multiplier2, bias;
  bool may_be_halved = false, may_be_plain = false;   // but for corrections and a tail
  Buffer<int32_t> thresholds, invert_mask, invert_sum;
  Buffer<uint8_t> tables, indices;

  int batch = 0, height = 0, width = 0, pixels = 0;
  int parts = 1;   // of the work, for threads
  Axis y, x;
  bool padded = false;
  int plane_width = 0;   // of a phase: see make_shared_geometry
  std::vector<uint32_t> pixel_offset, run_offset, row_offset;
  std::vector<int32_t> correction_row, corrections;
  Buffer<uint32_t> padded_input;
  Buffer<uint8_t> planes;
  std::vector<Buffer<uint8_t>> scratch;   // one a thread

 private:
  void pack_emit();
  void pack_classic();
  void pack_shared();
  void pack_rows();
  void pack_lanes();
  void make_classic_geometry();
  void make_shared_geometry();
  void make_corrections();
  void fill_padded(const uint32_t* input);
  void fill_planes(const uint32_t* input, int row);
};

Conv::Impl::Impl(const ConvSpec& layer, Isa isa, Algorithm algorithm)
    : spec(layer), isa(isa), algorithm(algorithm), kernel(&kernel_for(isa)) {
  words = words_for(spec.channels_in);
  group_words = words / spec.groups;
  const size_t filter_words = static_cast<size_t>(spec.kernel_h) * spec.kernel_w * group_words * spec.channels_out;
  filter.assign(spec.filter, spec.filter + filter_words);
  spec.filter = filter.data();
  pack_emit();
  if (spec.kernel_h == 3 && spec.kernel_w == 3 && spec.groups == 1) {
    codewords = find_codewords(spec);
    const int count = static_cast<int>(codewords.codes.size());
    // A sum of 16 bits must hold 9 times the input channels.
    may_share = algorithm != Algorithm::kClassic && kernel->row_pixels && 
                count <= (kernel->channels_in_lanes ? kMaxLaneCodewords : max_codewords(kernel->row_pixels)) &&
                spec.channels_in <= 65535 / 9;
  }
  if (spec.same_padding && spec.pad_value == 0) {
    const int taps = spec.kernel_h * spec.kernel_w;
    tap_popcounts.assign(static_cast<size_t>(taps) * spec.channels_out, 0);
    const uint32_t* word = spec.filter;
    for (int o = 0; o < spec.channels_out; o++)
      for (int tap = 0; tap < taps; tap++)
        for (int w = 0; w < group_words; w++)
          tap_popcounts[static_cast<size_t>(tap) * spec.channels_out + o] += __builtin_popcount(*word++);
  }
  spec.multiplier = spec.bias = nullptr;
  spec.thresholds = nullptr;
}

void Conv::Impl::pack_emit() {
  const int count = spec.channels_out;
  Emit& emit = plan.emit;
  emit.output = spec.output;
  emit.channels = count;
  emit.clamp_min = spec.clamp_min;
  emit.clamp_max = spec.clamp_max;
  if (spec.output == Output::kBits) {
    thresholds.assign(static_cast<size_t>(count) + kSlack, 0);
    for (int i = 0; i < count; i++)   // saturated: such a threshold is beyond any popcount
      thresholds[i] = static_cast<int32_t>(std::clamp<int64_t>(
          int64_t{2} * spec.thresholds[i], std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
    emit.thresholds = thresholds.data();
    return;
  }
  multiplier.assign(static_cast<size_t>(count) + kSlack, 0);
  bias.assign(static_cast<size_t>(count) + kSlack, 0);
  std::copy_n(spec.multiplier, count, multiplier.begin());
  std::copy_n(spec.bias, count, bias.begin());
  emit.multiplier = multiplier.data();
  emit.bias = bias.data();
  const int64_t most = int64_t{2} * spec.kernel_h * spec.kernel_w * (spec.channels_in / spec.groups);
  const int64_t clamp_min = std::max(spec.clamp_min, 0), clamp_max = std::min<int64_t>(spec.clamp_max, most);
  may_be_halved = spec.output == Output::kFloat && clamp_min <= most && clamp_max >= 0 && clamp_min % 2 == 0 && clamp_max % 2 == 0;
  for (const float m : multiplier) {
    multiplier2.push_back(2 * m);   // exact, unless it is too great
    may_be_halved = may_be_halved && std::isfinite(2 * m);
  }
  may_be_plain = may_be_halved && clamp_min == 0 && clamp_max == most;
  emit.multiplier2 = multiplier2.data();
  emit.popcount_min = static_cast<int32_t>(clamp_min / 2);
  emit.popcount_max = static_cast<int32_t>(clamp_max / 2);
}

void Conv::Impl::pack_classic() {
  if (plan.words_per_filter) return;   // for an earlier shape
  weights.clear();   // of an attempt for which there was no memory
  blocks.clear();
  const int per_filter = spec.kernel_h * spec.kernel_w * group_words;
  const int group_out = spec.channels_out / spec.groups;
  plan.group_words = group_words;
  plan.group_channels_out = group_out;
  // Vectors of bits write whole bytes, so a group must begin at one; scalars write single bits.
  if (kernel->lanes && spec.output == Output::kBits && group_out % 8 && spec.groups > 1) kernel = &scalar_kernel();
  // The weights of a group fill whole vectors: at most four times as much memory as the filter takes.
  if (4 * group_out < kernel->lanes && spec.groups > 1) kernel = &scalar_kernel();
  plan.filter = filter.data();
  if (!kernel->lanes) {
    plan.words_per_filter = per_filter;
    return;
  }
  for (int group = 0; group < spec.groups; group++)
    for (int done = 0; done < group_out;) {
      Block block;
      block.first = group * group_out + done;
      block.channels = std::min(group_out - done, kernel->lanes * kernel->block_vectors);
      block.vectors = divide_up(block.channels, kernel->lanes);
      block.word = group * group_words;
      block.weights = weights.size();
      const size_t row = static_cast<size_t>(block.vectors) * kernel->lanes;
      weights.resize(weights.size() + per_filter * row, 0);
      for (int k = 0; k < per_filter; k++)
        for (int i = 0; i < block.channels; i++)
          weights[block.weights + k * row + i] = spec.filter[static_cast<size_t>(block.first + i) * per_filter + k];
      blocks.push_back(block);
      done += block.channels;
    }
  plan.weights = weights.data();
  plan.blocks = blocks.data();
  plan.num_blocks = static_cast<int>(blocks.size());
  plan.words_per_filter = per_filter;
}

void Conv::Impl::pack_shared() {
  if (plan.indices) return;   // for an earlier shape
  plan.channels_in = spec.channels_in;
  plan.codewords = static_cast<int>(codewords.codes.size());
  if (kernel->channels_in_lanes) pack_lanes();
  else pack_rows();
  if (std::find(codewords.inverted.begin(), codewords.inverted.end(), true) != codewords.inverted.end()) {
    invert_sum.assign(static_cast<size_t>(spec.channels_out) + kSlack, 0);
    invert_mask = invert_sum;
    for (int o = 0; o < spec.channels_out; o++)
      if (codewords.inverted[o]) {   // 18 channels_in - d
        invert_mask[o] = -1;
        invert_sum[o] = 18 * spec.channels_in + 1;
      }
  }
  plan.tables = tables.data();
  plan.indices = indices.data();
}

void Conv::Impl::pack_rows() {
  const std::vector<uint16_t>& codes = codewords.codes;
  plan.vectors_together = shared_vectors(kernel->row_pixels, plan.codewords);
  plan.channels_together = shared_channels(plan.vectors_together * kernel->row_pixels, plan.codewords);
  plan.codewords_top0 = static_cast<int>(std::count_if(codes.begin(), codes.end(), [](int code) { return code < 256; }));
  tables.clear();   // of an attempt for which there was no memory
  for (const int code : codes)
    for (const int half : {code & 15, code >> 4 & 15})
      for (int x = 0; x < 16; x++) tables.push_back(static_cast<uint8_t>(__builtin_popcount(half ^ x)));
  const int groups = divide_up(spec.channels_out, kSharedOutputs);
  indices.assign(static_cast<size_t>(groups) * kSharedOutputs * spec.channels_in, 0);
  size_t at = 0;
  for (int c0 = 0; c0 < spec.channels_in; c0 += plan.channels_together)
    for (int group = 0; group < groups; group++)
      for (int c = c0; c < std::min(c0 + plan.channels_together, spec.channels_in); c++)
        for (int o = group * kSharedOutputs; o < (group + 1) * kSharedOutputs; o++, at++)
          if (o < spec.channels_out)
            indices[at] = static_cast<uint8_t>(codewords.index(spec, o, c) * (plan.vectors_together * kernel->row_pixels / 8));
}

void Conv::Impl::pack_lanes() {
  const std::vector<uint16_t>& codes = codewords.codes;
  const int stride = table_stride(plan.codewords);
  tables.assign(static_cast<size_t>(512) * stride, 0);
  for (int window = 0; window < 512; window++)
    for (int j = 0; j < plan.codewords; j++)
      tables[window * stride + j] = static_cast<uint8_t>(__builtin_popcount(codes[j] ^ window));
  const int groups = divide_up(spec.channels_out, kLaneOutputs);
  indices.assign(static_cast<size_t>(groups) * spec.channels_in * kLaneOutputs, 0);
  for (int o = 0; o < spec.channels_out; o++) {
    const int at = o % kLaneOutputs, lane = at < 32 ? 2 * at : 2 * at - 63;
    for (int c = 0; c < spec.channels_in; c++)
      indices[(static_cast<size_t>(o / kLaneOutputs) * spec.channels_in + c) * kLaneOutputs + lane] =
          static_cast<uint8_t>(codewords.index(spec, o, c));
  }
}

bool Conv::Impl::resize(int new_batch, int new_height, int new_width, int threads) {
  pixels = 0;
  batch = new_batch;
  height = new_height;
  width = new_width;
  if (batch < 1 || height < 1 || width < 1) return false;
  y = make_axis(height, spec.kernel_h, spec.stride_h, spec.dilation_h, spec.same_padding);
  x = make_axis(width, spec.kernel_w, spec.stride_w, spec.dilation_w, spec.same_padding);
  if (y.out < 1 || x.out < 1) return false;
  // All offsets are of 32 bits: count bytes of the padded input (rounded up to strides) and outputs.
  const double limit = std::numeric_limits<int32_t>::max();
  const double rows = static_cast<double>(batch) * y.padded;
  if (rows * (x.padded + spec.stride_w) * words * 4 > limit) return false;
  if (static_cast<double>(batch) * y.out * x.out * spec.channels_out > limit) return false;
  padded = y.padded != height || x.padded != width;
  const int new_pixels = batch * y.out * x.out;
  const Estimate time = estimate(isa, spec, static_cast<int>(codewords.codes.size()), new_pixels);
  if (!plan.indices && !plan.words_per_filter)   // else the choice is made, and only one form is kept
    shared = may_share && (algorithm == Algorithm::kShared || time.shared < time.classic);
  parts = std::max(threads, 1);
  // Who asks for an algorithm asks for all threads, too: for tests, whose layers are small.
  if (algorithm == Algorithm::kAuto)
    parts = static_cast<int>(std::clamp((shared ? time.shared : time.classic) / kWorthAThread, 1.0, 1.0 * parts));
  if (shared) {
    pack_shared();
    make_shared_geometry();
  } else {
    pack_classic();
    make_classic_geometry();
  }
  if (shared || kernel->lanes) Buffer<uint32_t>().swap(filter);   // packed in another form
  const bool inverted = shared && !invert_mask.empty();
  plan.emit.invert_mask = inverted ? invert_mask.data() : nullptr;
  plan.emit.invert_sum = inverted ? invert_sum.data() : nullptr;
  make_corrections();
  pixels = new_pixels;
  return true;
}

void Conv::Impl::make_classic_geometry() {
  const uint32_t row_words = static_cast<uint32_t>(x.padded * words);
  pixel_offset.clear();
  pixel_offset.reserve(static_cast<size_t>(batch) * y.out * x.out);
  for (int b = 0; b < batch; b++)
    for (int oy = 0; oy < y.out; oy++)
      for (int ox = 0; ox < x.out; ox++)
        pixel_offset.push_back(static_cast<uint32_t>(b * y.padded + oy * spec.stride_h) * row_words +
                               static_cast<uint32_t>(ox * spec.stride_w * words));
  run_offset.clear();
  const bool whole_rows = spec.dilation_w == 1 && spec.groups == 1;
  for (int ky = 0; ky < spec.kernel_h; ky++)
    for (int kx = 0; kx < (whole_rows ? 1 : spec.kernel_w); kx++)
      run_offset.push_back(static_cast<uint32_t>(ky * spec.dilation_h) * row_words +
                           static_cast<uint32_t>(kx * spec.dilation_w * words));
  plan.pixel_offset = pixel_offset.data();
  plan.run_offset = run_offset.data();
  plan.runs = static_cast<int>(run_offset.size());
  plan.run_length = whole_rows ? spec.kernel_w * words : group_words;
  padded_input.clear();
  if (padded) padded_input.assign(static_cast<size_t>(batch * y.padded) * row_words, 0);
}

void Conv::Impl::make_shared_geometry() {
  // With a stride a row is stored as its phases one after another, so that the inputs of neighbouring
  // outputs are neighbours: input x is at (x % stride) * plane_width + x / stride.
  plane_width = divide_up(static_cast<int>(x.padded), spec.stride_w);
  const uint32_t row = static_cast<uint32_t>(plane_width) * spec.stride_w;
  row_offset.clear();
  for (int b = 0; b < batch; b++)
    for (int oy = 0; oy < y.out; oy++) row_offset.push_back(static_cast<uint32_t>(b * y.padded + oy * spec.stride_h) * row);
  for (int tap = 0; tap < 9; tap++) {
    const int at = tap % 3 * spec.dilation_w;
    plan.tap_offset[tap] = static_cast<uint32_t>(tap / 3 * spec.dilation_h) * row +
                           static_cast<uint32_t>(at % spec.stride_w * plane_width + at / spec.stride_w);
  }
  plan.out_width = x.out;
  plan.row_offset = row_offset.data();
  plan.plane_stride = static_cast<size_t>(batch * y.padded) * row;
  planes.assign(plan.plane_stride * words * 4 + kSlack, 0);
  if (kernel->channels_in_lanes) {
    scratch.assign(parts, Buffer<uint8_t>(lanes_scratch(spec.channels_in) * sizeof(uint16_t)));
    return;
  }
  // The windows (of which the last may be written a vector too far), the rows and the sums of shared.h.
  const size_t windows = plan.channels_together / 8 * 9 + 1;
  const size_t rows = static_cast<size_t>(plan.channels_together) * plan.codewords;
  const size_t sums = static_cast<size_t>(divide_up(spec.channels_out, kSharedOutputs)) * kSharedOutputs * 2;
  const size_t vectors = windows + plan.vectors_together * (rows + sums);
  const size_t size = vectors * kernel->row_pixels;
  parts = static_cast<int>(std::clamp<size_t>(kMaxScratch / size, 1, parts));
  scratch.assign(parts, Buffer<uint8_t>(size));
}

void Conv::Impl::make_corrections() {
  correction_row.clear();
  corrections.clear();
  plan.emit.correction_row = nullptr;
  if (!spec.same_padding || spec.pad_value != 0) return;
  // A tap outside was computed with the bits of +1; it should have counted as half its channels.
  const int group_channels = spec.channels_in / spec.groups;
  const size_t row_size = static_cast<size_t>(spec.channels_out) + kSlack;
  std::map<std::pair<uint32_t, uint32_t>, int32_t> rows;
  for (int oy = 0; oy < y.out; oy++)
    for (int ox = 0; ox < x.out; ox++) {
      const uint32_t above = outside(oy, y, height, spec.kernel_h, spec.stride_h, spec.dilation_h);
      const uint32_t beside = outside(ox, x, width, spec.kernel_w, spec.stride_w, spec.dilation_w);
      if (!above && !beside) {
        correction_row.push_back(-1);
        continue;
      }
      const auto [found, is_new] = rows.insert({{above, beside}, static_cast<int32_t>(corrections.size())});
      correction_row.push_back(found->second);
      if (!is_new) continue;
      corrections.resize(corrections.size() + row_size, 0);
      int32_t* row = corrections.data() + found->second;
      for (int ky = 0; ky < spec.kernel_h; ky++)
        for (int kx = 0; kx < spec.kernel_w; kx++)
          if ((above >> ky & 1) || (beside >> kx & 1))
            for (int o = 0; o < spec.channels_out; o++)
              row[o] += group_channels - 2 * tap_popcounts[static_cast<size_t>(ky * spec.kernel_w + kx) * spec.channels_out + o];
    }
  if (corrections.empty()) return;
  const std::vector<int32_t> one_image = correction_row;
  for (int b = 1; b < batch; b++) correction_row.insert(correction_row.end(), one_image.begin(), one_image.end());
  plan.emit.corrections = corrections.data();
  plan.emit.correction_row = correction_row.data();
}

void Conv::Impl::fill_padded(const uint32_t* input) {
  const size_t row = static_cast<size_t>(width) * words;
  for (int b = 0; b < batch; b++)
    for (int iy = 0; iy < height; iy++, input += row)
      std::memcpy(&padded_input[((b * y.padded + y.before + iy) * x.padded + x.before) * words], input, row * sizeof(uint32_t));
}

// A row of the input, counted over the batch.
void Conv::Impl::fill_planes(const uint32_t* input, int row) {
  const int64_t padded_row = row / height * y.padded + y.before + row % height;
  uint8_t* to = planes.data() + static_cast<size_t>(padded_row) * plane_width * spec.stride_w;
  input += static_cast<size_t>(row) * width * words;
  if (spec.stride_w == 1) return kernel->make_planes(input, width, words, plan.plane_stride, to + x.before);
  const auto* bytes = reinterpret_cast<const uint8_t*>(input);
  for (int ix = 0; ix < width; ix++) {
    const int at = ix + x.before;
    uint8_t* pixel = to + static_cast<size_t>(at % spec.stride_w) * plane_width + at / spec.stride_w;
    for (int i = 0; i < 4 * words; i++) pixel[i * plan.plane_stride] = *bytes++;
  }
}

void Conv::Impl::run(const uint32_t* input, void* output, ThreadPool* pool, const Tail& tail) {
  plan.emit.tail = tail;
  plan.emit.halved = may_be_halved && !plan.emit.correction_row;
  plan.emit.plain = plan.emit.halved && may_be_plain && !tail.addend && !tail.signs;
  // Vectors write whole bytes of signs, and a group of other channels than whole bytes begins within one.
  const bool signs_later = tail.signs && spec.groups > 1 && spec.channels_out / spec.groups % 8;
  if (signs_later) plan.emit.tail.signs = nullptr;
  // Vectors of bits write whole bytes, scalars set single bits: the rest of a pixel's last word is 0.
  void* const bits = spec.output == Output::kBits ? output : tail.signs;
  if (bits && (spec.channels_out % 32 || !kernel->lanes))
    std::memset(bits, 0, static_cast<size_t>(pixels) * words_for(spec.channels_out) * sizeof(uint32_t));
  // One hundredth of the work, too little to wake threads for.
  if (shared) {
    for (int row = 0; row < batch * height; row++) fill_planes(input, row);
  } else if (padded) {
    fill_padded(input);
    input = padded_input.data();
  }
  struct Job {
    Impl* conv;
    const uint32_t* input;
    void* output;
    int parts;
  } job{this, input, output, pool ? parts : 1};
  const auto conv_part = [](void* context, int i) {
    const Job& j = *static_cast<Job*>(context);
    Impl& c = *j.conv;
    // No part but the last has pixels left over: of a vector, or of half a tile of avx512_shared.h.
    const int grain = !c.shared || c.kernel->channels_in_lanes ? 8 : c.kernel->row_pixels;
    const int64_t grains = divide_up(c.pixels, grain);
    const int first = static_cast<int>(std::min<int64_t>(grains * i / j.parts * grain, c.pixels));
    const int last = static_cast<int>(std::min<int64_t>(grains * (i + 1) / j.parts * grain, c.pixels));
    if (first == last) return;
    if (c.shared) c.kernel->shared(c.plan, c.planes.data(), c.scratch[i].data(), j.output, first, last);
    else c.kernel->classic(c.plan, j.input, j.output, first, last);
  };
  if (pool) pool->run(job.parts, conv_part, &job);
  else conv_part(&job, 0);
  if (signs_later) pack_float(isa, static_cast<const float*>(output), pixels, spec.channels_out, tail.signs);
}

Conv::Conv(const ConvSpec& spec, Isa isa, Algorithm algorithm) : impl_(new Impl(spec, isa, algorithm)) {}
Conv::~Conv() = default;
bool Conv::resize(int batch, int height, int width, int threads) { return impl_->resize(batch, height, width, threads); }
int Conv::out_height() const { return impl_->y.out; }
int Conv::out_width() const { return impl_->x.out; }
void Conv::run(const uint32_t* input, void* output, ThreadPool* pool, const Tail& tail) {
  impl_->run(input, output, pool, tail);
}
Algorithm Conv::algorithm() const { return impl_->shared ? Algorithm::kShared : Algorithm::kClassic; }
int Conv::codewords() const { return static_cast<int>(impl_->codewords.codes.size()); }

}  // namespace larq_sks
