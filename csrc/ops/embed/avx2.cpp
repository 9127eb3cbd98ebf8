#include "vector/avx2.h"

#include "ops/embed/body.h"

namespace aerogel {

void embed_f32_avx2(const EmbedTask& task) { embed_f32(task); }
void embed_q8_avx2(const EmbedTask& task) { embed_q8(task); }
void embed_bf16_avx2(const EmbedTask& task) { embed_half<load_bf16>(task); }
void embed_f16_avx2(const EmbedTask& task) { embed_half<load_f16>(task); }

}  // namespace aerogel
