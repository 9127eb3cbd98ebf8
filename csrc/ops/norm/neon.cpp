// Three passes over a row that stays in L1 (two for rms_norm): the sum, the squares of what is centred, the result
// with its largest magnitude; then its codes, where they are wanted.
#include "ops/math_neon.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

inline float sum_of(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
  return vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
}

inline float square_root(float v) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(v)), 0); }

// s = x + residual, stored; or s = x.
struct Plain {
  const float* x;
  float32x4_t operator()(std::int64_t k) const { return vld1q_f32(x + k); }
  float32x4_t operator()(std::int64_t k, std::int64_t n) const { return load_first(x + k, n); }
};

struct Added {
  const float* x;
  const float* residual;
  float* s;
  float32x4_t operator()(std::int64_t k) const {
    const float32x4_t v = vaddq_f32(vld1q_f32(x + k), vld1q_f32(residual + k));
    vst1q_f32(s + k, v);
    return v;
  }
  float32x4_t operator()(std::int64_t k, std::int64_t n) const {
    const float32x4_t v = vaddq_f32(load_first(x + k, n), load_first(residual + k, n));
    store_first(s + k, v, n);
    return v;
  }
};

struct Copied {
  const float* x;
  float* s;
  float32x4_t operator()(std::int64_t k) const {
    const float32x4_t v = vld1q_f32(x + k);
    vst1q_f32(s + k, v);
    return v;
  }
  float32x4_t operator()(std::int64_t k, std::int64_t n) const {
    const float32x4_t v = load_first(x + k, n);
    store_first(s + k, v, n);
    return v;
  }
};

template <class Row>
float row_sum(std::int64_t width, Row row) {
  float32x4_t a = vdupq_n_f32(0.0f), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) {
    a = vaddq_f32(a, row(k));
    b = vaddq_f32(b, row(k + 4));
    c = vaddq_f32(c, row(k + 8));
    d = vaddq_f32(d, row(k + 12));
  }
  for (; k < width; k += 4) a = vaddq_f32(a, row(k, width - k));
  return sum_of(a, b, c, d);
}

template <class Row>
float row_squares(std::int64_t width, Row row) {
  float32x4_t a = vdupq_n_f32(0.0f), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 16 <= width; k += 16) {
    const float32x4_t u = row(k), v = row(k + 4), w = row(k + 8), x = row(k + 12);
    a = fmadd(u, u, a);
    b = fmadd(v, v, b);
    c = fmadd(w, w, c);
    d = fmadd(x, x, d);
  }
  for (; k < width; k += 4) {
    const float32x4_t v = row(k, width - k);
    a = fmadd(v, v, a);
  }
  return sum_of(a, b, c, d);
}

// s - mean, with lanes beyond the row 0.
struct Centred {
  const float* s;
  float32x4_t mean;
  float32x4_t operator()(std::int64_t k) const { return vsubq_f32(vld1q_f32(s + k), mean); }
  float32x4_t operator()(std::int64_t k, std::int64_t n) const {
    return keep(vsubq_f32(load_first(s + k, n), mean), first_lanes(n));
  }
};

enum class Kind { rms, layer, layer_without_beta };

// Returns the bits of the largest |y|.
template <Kind kind>
std::uint32_t finish(const NormTask& task, const float* s, float mean, float inverse, float* y) {
  const float32x4_t means = vdupq_n_f32(mean), inverses = vdupq_n_f32(inverse);
  uint32x4_t a = vdupq_n_u32(0), b = a;
  const auto step = [&](float32x4_t v, float32x4_t gamma, float32x4_t beta) {
    if (kind == Kind::rms) return vmulq_f32(vmulq_f32(v, inverses), gamma);
    const float32x4_t normal = vmulq_f32(vsubq_f32(v, means), inverses);
    if (kind == Kind::layer) return fmadd(normal, gamma, beta);
    return vmulq_f32(normal, gamma);
  };
  const float* beta = kind == Kind::layer ? task.beta : task.gamma;  // a readable row where there is none
  std::int64_t k = 0;
  for (; k + 8 <= task.width; k += 8) {
    const float32x4_t u = step(vld1q_f32(s + k), vld1q_f32(task.gamma + k), vld1q_f32(beta + k));
    const float32x4_t v = step(vld1q_f32(s + k + 4), vld1q_f32(task.gamma + k + 4), vld1q_f32(beta + k + 4));
    vst1q_f32(y + k, u);
    vst1q_f32(y + k + 4, v);
    a = vmaxq_u32(a, magnitude_bits(u));
    b = vmaxq_u32(b, magnitude_bits(v));
  }
  for (; k < task.width; k += 4) {
    const std::int64_t n = task.width - k;
    // gamma and beta are 0 beyond the row, and so is y, unless the row is poisoned: then so is its scale.
    const float32x4_t v = step(load_first(s + k, n), load_first(task.gamma + k, n), load_first(beta + k, n));
    store_first(y + k, v, n);
    a = vmaxq_u32(a, magnitude_bits(v));
  }
  return vmaxvq_u32(vmaxq_u32(a, b));
}

template <Kind kind>
void norm(const NormTask& task) {
  const float width = static_cast<float>(task.width);
  for (std::int64_t t = 0; t < task.rows; ++t) {
    const float* x = task.x + t * task.ldx;
    float* y = task.y + t * task.ldy;
    const float* s = x;
    const bool store = task.residual != nullptr || task.sum != nullptr;
    float* stored = task.sum != nullptr ? task.sum + t * task.ldx : y;  // y is overwritten at the end
    float total = 0.0f, squares = 0.0f;
    const auto first_pass = [&](auto row) {
      if (kind == Kind::rms) squares = row_squares(task.width, row);
      else total = row_sum(task.width, row);
    };
    if (task.residual != nullptr) first_pass(Added{x, task.residual + t * task.ldx, stored});
    else if (store) first_pass(Copied{x, stored});
    else first_pass(Plain{x});
    if (store) s = stored;
    const float mean = total / width;
    if (kind != Kind::rms) squares = row_squares(task.width, Centred{s, vdupq_n_f32(mean)});
    const float inverse = 1.0f / square_root(squares / width + task.eps);
    const std::uint32_t largest = finish<kind>(task, s, mean, inverse, y);
    if (task.q != nullptr)
      quantize_row_neon(y, task.width, largest, task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

}  // namespace

void layer_norm_neon(const NormTask& task) {
  task.beta != nullptr ? norm<Kind::layer>(task) : norm<Kind::layer_without_beta>(task);
}

void rms_norm_neon(const NormTask& task) { norm<Kind::rms>(task); }

}  // namespace aerogel
