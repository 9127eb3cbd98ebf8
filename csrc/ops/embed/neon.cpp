#include "vector/neon.h"

#include "ops/embed/body.h"

namespace aerogel {

void embed_f32_neon(const EmbedTask& task) { embed_f32(task); }
void embed_q8_neon(const EmbedTask& task) { embed_q8(task); }
void embed_bf16_neon(const EmbedTask& task) { embed_half<load_bf16>(task); }
void embed_f16_neon(const EmbedTask& task) { embed_half<load_f16>(task); }

}  // namespace aerogel
