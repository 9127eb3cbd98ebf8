// Tiles of 6 rows by 2 vectors: 12 sums; 2 loads and 6 broadcasts for 12 multiply-adds, so bound by the two FMA ports.
// Measured on Zen 3 (peak 51.8 GMAC/s), 128 tokens, d = 32: the products at 94 % of peak; with softmax and packing 36 GMAC/s, 40 with
// d = 64. One query on 100 keys, d = 64, three heads sharing them: 20 GMAC/s (10 head by head).
#include "ops/math_avx2.h"

#include "ops/attention/body.h"

namespace aerogel {

void attention_avx2(const AttentionTask& task) { attend<6>(task); }

}  // namespace aerogel
