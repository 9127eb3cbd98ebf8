#include "vector/avx512vnni.h"

#include "ops/embed/body.h"

namespace aerogel {

void embed_f32_avx512vnni(const EmbedTask& task) { embed_f32(task); }
void embed_q8_avx512vnni(const EmbedTask& task) { embed_q8(task); }
void embed_bf16_avx512vnni(const EmbedTask& task) { embed_half<load_bf16>(task); }
void embed_f16_avx512vnni(const EmbedTask& task) { embed_half<load_f16>(task); }

}  // namespace aerogel
