#include "runtime/ops/l2_normalize.h"

#include "runtime/work.h"

namespace aerogel {

void L2Normalize::run(const Work& work) const { work.ops.l2_normalize({work.x(), work.rows(), result().width, work.y()}); }

}  // namespace aerogel
