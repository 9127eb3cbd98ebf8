#include "vector/neon.h"

#include "ops/embed/body.h"

namespace aerogel {

void embed_f32_neon(const EmbedTask& task) { embed_f32(task); }
void embed_q8_neon(const EmbedTask& task) { embed_q8(task); }

}  // namespace aerogel
