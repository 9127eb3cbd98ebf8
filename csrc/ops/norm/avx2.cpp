// Three passes over a row that stays in L1 (two for rms_norm): the sum, the squares of what is centred, the result
// with its largest magnitude; then its codes, where they are wanted.
#include "ops/math_avx2.h"
#include "ops/ops.h"

namespace aerogel {
namespace {

inline float sum_of(__m256 a, __m256 b, __m256 c, __m256 d) {
  return sum_lanes(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
}

inline float square_root(float v) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(v))); }

// s = x + residual, stored; or s = x.
struct Plain {
  const float* x;
  __m256 operator()(std::int64_t k) const { return _mm256_loadu_ps(x + k); }
  __m256 operator()(std::int64_t k, std::int64_t n) const { return load_first(x + k, n); }
};

struct Added {
  const float* x;
  const float* residual;
  float* s;
  __m256 operator()(std::int64_t k) const {
    const __m256 v = _mm256_add_ps(_mm256_loadu_ps(x + k), _mm256_loadu_ps(residual + k));
    _mm256_storeu_ps(s + k, v);
    return v;
  }
  __m256 operator()(std::int64_t k, std::int64_t n) const {
    const __m256 v = _mm256_add_ps(load_first(x + k, n), load_first(residual + k, n));
    store_first(s + k, v, n);
    return v;
  }
};

struct Copied {
  const float* x;
  float* s;
  __m256 operator()(std::int64_t k) const {
    const __m256 v = _mm256_loadu_ps(x + k);
    _mm256_storeu_ps(s + k, v);
    return v;
  }
  __m256 operator()(std::int64_t k, std::int64_t n) const {
    const __m256 v = load_first(x + k, n);
    store_first(s + k, v, n);
    return v;
  }
};

template <class Row>
float row_sum(std::int64_t width, Row row) {
  __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 32 <= width; k += 32) {
    a = _mm256_add_ps(a, row(k));
    b = _mm256_add_ps(b, row(k + 8));
    c = _mm256_add_ps(c, row(k + 16));
    d = _mm256_add_ps(d, row(k + 24));
  }
  for (; k < width; k += 8) a = _mm256_add_ps(a, row(k, width - k));
  return sum_of(a, b, c, d);
}

template <class Row>
float row_squares(std::int64_t width, Row row) {
  __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
  std::int64_t k = 0;
  for (; k + 32 <= width; k += 32) {
    const __m256 u = row(k), v = row(k + 8), w = row(k + 16), x = row(k + 24);
    a = _mm256_fmadd_ps(u, u, a);
    b = _mm256_fmadd_ps(v, v, b);
    c = _mm256_fmadd_ps(w, w, c);
    d = _mm256_fmadd_ps(x, x, d);
  }
  for (; k < width; k += 8) {
    const __m256 v = row(k, width - k);
    a = _mm256_fmadd_ps(v, v, a);
  }
  return sum_of(a, b, c, d);
}

// s - mean, with lanes beyond the row 0.
struct Centred {
  const float* s;
  __m256 mean;
  __m256 operator()(std::int64_t k) const { return _mm256_sub_ps(_mm256_loadu_ps(s + k), mean); }
  __m256 operator()(std::int64_t k, std::int64_t n) const {
    return _mm256_and_ps(_mm256_sub_ps(load_first(s + k, n), mean), _mm256_castsi256_ps(first_lanes(n)));
  }
};

enum class Kind { rms, layer, layer_without_beta };

// Returns the bits of the largest |y|.
template <Kind kind>
std::uint32_t finish(const NormTask& task, const float* s, float mean, float inverse, float* y) {
  const __m256 means = _mm256_set1_ps(mean), inverses = _mm256_set1_ps(inverse);
  __m256i a = _mm256_setzero_si256(), b = a;
  const auto step = [&](__m256 v, __m256 gamma, __m256 beta) {
    if (kind == Kind::rms) return _mm256_mul_ps(_mm256_mul_ps(v, inverses), gamma);
    const __m256 normal = _mm256_mul_ps(_mm256_sub_ps(v, means), inverses);
    if (kind == Kind::layer) return _mm256_fmadd_ps(normal, gamma, beta);
    return _mm256_mul_ps(normal, gamma);
  };
  const float* beta = kind == Kind::layer ? task.beta : task.gamma;  // a readable row where there is none
  std::int64_t k = 0;
  for (; k + 16 <= task.width; k += 16) {
    const __m256 u = step(_mm256_loadu_ps(s + k), _mm256_loadu_ps(task.gamma + k), _mm256_loadu_ps(beta + k));
    const __m256 v = step(_mm256_loadu_ps(s + k + 8), _mm256_loadu_ps(task.gamma + k + 8), _mm256_loadu_ps(beta + k + 8));
    _mm256_storeu_ps(y + k, u);
    _mm256_storeu_ps(y + k + 8, v);
    a = _mm256_max_epi32(a, magnitude_bits(u));
    b = _mm256_max_epi32(b, magnitude_bits(v));
  }
  for (; k < task.width; k += 8) {
    const std::int64_t n = task.width - k;
    // gamma and beta are 0 beyond the row, and so is y, unless the row is poisoned: then so is its scale.
    const __m256 v = step(load_first(s + k, n), load_first(task.gamma + k, n), load_first(beta + k, n));
    store_first(y + k, v, n);
    a = _mm256_max_epi32(a, magnitude_bits(v));
  }
  return max_lanes_i32(_mm256_max_epi32(a, b));
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
    if (kind != Kind::rms) squares = row_squares(task.width, Centred{s, _mm256_set1_ps(mean)});
    const float inverse = 1.0f / square_root(squares / width + task.eps);
    const std::uint32_t largest = finish<kind>(task, s, mean, inverse, y);
    if (task.q != nullptr)
      quantize_row_avx2(y, task.width, largest, task.q + t * task.ldq, task.ldq, task.q_scale + t);
  }
}

}  // namespace

void layer_norm_avx2(const NormTask& task) {
  task.beta != nullptr ? norm<Kind::layer>(task) : norm<Kind::layer_without_beta>(task);
}

void rms_norm_avx2(const NormTask& task) { norm<Kind::rms>(task); }

}  // namespace aerogel
