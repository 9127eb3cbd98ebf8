#include "vector/avx512vnni.h"

#include "ops/embed/body.h"

namespace aerogel {

void embed_f32_avx512vnni(const EmbedTask& task) { embed_f32(task); }
void embed_q8_avx512vnni(const EmbedTask& task) { embed_q8(task); }

}  // namespace aerogel
