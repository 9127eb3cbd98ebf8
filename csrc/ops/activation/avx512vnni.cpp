#include "ops/math_avx512vnni.h"

#include "ops/activation/body.h"

namespace aerogel {
namespace {

// Q(a) = 1 / (1 + e^a) in cells of 3/5 whose centres are multiples of that: a polynomial of degree 4 in r, the distance from the centre
// in cells, by the highest power first. The last cell is 0.
alignas(64) constexpr float kCells[5][32] = {
    {
      -0.000211514489f, -0.00062492193f, -0.000576899794f, -0.000216427652f, 2.74157755e-05f, 0.000100059835f,
      9.0919144e-05f, 6.29360366e-05f, 3.88847657e-05f, 2.27245637e-05f, 1.29019254e-05f, 7.21288143e-06f, 3.99884539e-06f,
      2.20689822e-06f, 1.2149186e-06f, 6.67909433e-07f, 3.66911138e-07f, 2.01476183e-07f, 1.10608013e-07f, 6.07146973e-08f,
      3.33249801e-08f, 1.82906152e-08f, 1.00386757e-08f, 5.50958035e-09f, 3.0238263e-09f, 1.65955927e-09f, 9.10808484e-10f,
      4.99873587e-10f, 2.74342049e-10f, 1.50564949e-10f, 8.26332336e-11f, 0.0f},
    {
      0.00459919591f, 0.00305101834f, 0.00045033847f, -0.00116018776f, -0.00148004538f, -0.00118447677f, -0.000788821606f,
      -0.000479974144f, -0.000278550317f, -0.000157598071f, -8.79438376e-05f, -4.87068028e-05f, -2.6864851e-05f,
      -1.47842338e-05f, -8.12597773e-06f, -4.46331478e-06f, -2.45062915e-06f, -1.34526829e-06f, -7.38399649e-07f,
      -4.05272687e-07f, -2.22427502e-07f, -1.22073558e-07f, -6.69962148e-08f, -3.67685509e-08f, -2.01790851e-08f,
      -1.10745386e-08f, -6.07784267e-09f, -3.33559269e-09f, -1.83061266e-09f, -1.00466169e-09f, -5.51370116e-10f, 0.0f},
    {
      -1.93278993e-05f, 0.0119972592f, 0.0171953719f, 0.0156945605f, 0.0114427386f, 0.00736059295f, 0.00441228785f,
      0.00254263519f, 0.00143348123f, 0.000798442925f, 0.000441773824f, 0.000243536168f, 0.000133983674f, 7.36308357e-05f,
      4.04393177e-05f, 2.2202561e-05f, 1.2187731e-05f, 6.68958319e-06f, 3.67156599e-06f, 2.01507169e-06f, 1.10591679e-06f,
      6.06946514e-07f, 3.33101269e-07f, 1.8281041e-07f, 1.00328649e-07f, 5.50615731e-08f, 3.02184411e-08f, 1.65842344e-08f,
      9.10162079e-09f, 4.99507546e-09f, 2.74135514e-09f, 0.0f},
    {
      -0.149998724f, -0.137269452f, -0.106737815f, -0.0730389282f, -0.0457535684f, -0.0271060597f, -0.0155336577f,
      -0.00873334706f, -0.00485748751f, -0.00268558459f, -0.00147987646f, -0.000813987979f, -0.00044727404f,
      -0.000245634466f, -0.000134856877f, -7.40260366e-05f, -4.06308718e-05f, -2.2300057e-05f, -1.22389411e-05f,
      -6.71699672e-06f, -3.68640326e-06f, -2.02315209e-06f, -1.11033285e-06f, -6.09364577e-07f, -3.34426659e-07f,
      -1.83537338e-07f, -1.00727455e-07f, -5.5280406e-08f, -3.03385299e-08f, -1.6650139e-08f, -9.13779008e-09f, 0.0f},
    {
      0.5f, 0.354343653f, 0.231475249f, 0.141851082f, 0.0831726938f, 0.0474258699f, 0.0265969895f, 0.0147740301f,
      0.00816257019f, 0.00449627265f, 0.00247262279f, 0.00135851977f, 0.000746028731f, 0.000409567088f, 0.000224816729f,
      0.000123394551f, 6.77241333e-05f, 3.71689275e-05f, 2.03990821e-05f, 1.11953568e-05f, 6.14417286e-06f, 3.37200299e-06f,
      1.8505973e-06f, 1.01563012e-06f, 5.5738991e-07f, 3.0590212e-07f, 1.67882675e-07f, 9.213597e-08f, 5.05652942e-08f,
      2.77508221e-08f, 1.52299737e-08f, 0.0f},
};

// silu(x) = max(x, 0) - a Q(a) with a = |x|. Adding 1.5 * 2^23 rounds to a cell, which its low five bits name. 17 operations, five of them
// lookups, for two ports; a division alone would keep one of them busy for longer (not timed).
struct SiluByCells {
  static constexpr int kBlock = 4;
  static inline Vector look_up(int power, Vector cell) {
    return _mm512_permutex2var_ps(load(kCells[power]), _mm512_castps_si512(cell), load(kCells[power] + 16));
  }
  static inline void apply(Vector (&x)[kBlock]) {
    const Vector bias = splat(12582912.0f), cells = splat(1.66666663f);
    for (Vector& each : x) {
      const Vector a = min(splat(18.6f), magnitude(each));  // min keeps a NaN
      const Vector cell = fma(a, cells, bias), r = _mm512_fmsub_ps(a, cells, sub(cell, bias));
      Vector q = look_up(0, cell);
#pragma GCC unroll 4
      for (int i = 1; i < 5; ++i) q = fma(q, r, look_up(i, cell));
      each = fnma(a, q, max(splat(0.0f), each));  // max keeps a NaN
    }
  }
};

}  // namespace

void gelu_erf_avx512vnni(const ActivationTask& task) { activate<Gelu<Erf>>(task); }
void gelu_tanh_avx512vnni(const ActivationTask& task) { activate<Gelu<Tanh3>>(task); }
void relu_avx512vnni(const ActivationTask& task) { activate<Relu>(task); }
void tanh_act_avx512vnni(const ActivationTask& task) { activate<Tanh>(task); }
void silu_avx512vnni(const ActivationTask& task) { activate<SiluByCells>(task); }
void gelu_erf_gate_avx512vnni(const ActivationTask& task) { activate<Gelu<Erf>, true>(task); }
void gelu_tanh_gate_avx512vnni(const ActivationTask& task) { activate<Gelu<Tanh3>, true>(task); }
void relu_gate_avx512vnni(const ActivationTask& task) { activate<Relu, true>(task); }
void silu_gate_avx512vnni(const ActivationTask& task) { activate<SiluByCells, true>(task); }

}  // namespace aerogel
