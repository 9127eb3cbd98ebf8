// short_conv: the kernels bit for bit, with codes and without; the op gives the same bits however a sequence is cut into calls, and
// behind a slot that was cut back.
#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "ops_support.h"
#include "runtime/ops/embed.h"
#include "runtime/ops/short_conv.h"
#include "runtime/session.h"

namespace aerogel {
namespace {

using namespace testing;

TEST(ops_short_conv) {
  Random random(21);
  for (Isa isa : tested_isas())
    for (std::int64_t width : kWidths)
      for (std::int64_t taps : {1, 3, 4})
        for (bool biased : {false, true})
          for (bool codes_only : {false, true}) {
            const std::int64_t rows = 5, ldx = 3 * width + 2, ldq = (width + 63) / 64 * 64, before = (taps - 1) * width;
            const std::vector<float> x = random_floats(random, rows * ldx), kernel = random_floats(random, taps * width);
            const std::vector<float> bias = random_floats(random, width);
            std::vector<float> v = random_floats(random, before + rows * width + 8), wanted = v;
            std::vector<float> y(static_cast<std::size_t>(rows * width + 8), kCanary);
            Codes codes(rows, ldq);
            ShortConvTask task{x.data(), ldx, rows, width, taps, kernel.data(), biased ? bias.data() : nullptr, v.data(), y.data(),
                               codes_only ? 0 : width, codes.q.data(), ldq, codes.scale.data()};
            ops_for(isa).short_conv(task);
            const std::string where = std::string("short_conv ") + isa_name(isa) + " " + std::to_string(width);
            std::vector<float> row(static_cast<std::size_t>(width));
            for (std::int64_t t = 0; t < rows; ++t) {
              for (std::int64_t k = 0; k < width; ++k) {
                wanted[before + t * width + k] = x[t * ldx + k] * x[t * ldx + 2 * width + k];
                float sum = kernel[k] * wanted[t * width + k];
                if (biased) sum = bias[k] + sum;
                for (std::int64_t j = 1; j < taps; ++j) sum = sum + kernel[j * width + k] * wanted[(t + j) * width + k];
                row[k] = x[t * ldx + width + k] * sum;
                if (!codes_only) CHECK(same_bits(y[t * width + k], row[k]), where << " [" << t << ", " << k << "]");
              }
              codes.check_row(t, row.data(), width, where);
            }
            codes.check_canary(where);
            for (std::size_t i = 0; i < v.size(); ++i) CHECK(same_bits(v[i], wanted[i]), where << " products at " << i);
            for (std::size_t i = codes_only ? width : rows * width; i < y.size(); ++i) CHECK(y[i] == kCanary, where << " wrote beyond its rows");
          }
}

std::shared_ptr<Table> rows_of(const std::vector<float>& values, std::int64_t width) {
  auto table = std::make_shared<Table>();
  table->name = "rows";
  table->entries = static_cast<std::int64_t>(values.size()) / width;
  table->width = width;
  table->f32 = values.data();
  return table;
}

std::vector<float> run(Session& session, const std::vector<std::int32_t>& tokens, const std::vector<std::int64_t>& offsets,
                       const std::vector<std::int64_t>& slots = {}) {
  const Batch batch{tokens.data(), nullptr, static_cast<std::int64_t>(tokens.size()), offsets.data(),
                    static_cast<std::int64_t>(offsets.size()) - 1, slots.empty() ? nullptr : slots.data()};
  const Schedule& schedule = session.plan().schedule("y");
  session.check(schedule, batch);
  std::vector<float> y(static_cast<std::size_t>(session.result_rows(schedule, batch) * schedule.result.width));
  session.run(schedule, batch, y.data());
  return y;
}

TEST(runtime_short_conv_however_it_is_cut) {
  Random random(22);
  const std::int64_t length = 150;
  for (std::int64_t width : {1, 7, 300})
    for (int threads : {1, 3}) {
      const std::vector<float> values = random_floats(random, length * 3 * width);
      auto kernel = std::make_shared<AlignedBuffer<float>>(static_cast<std::size_t>(4 * width));
      for (std::size_t i = 0; i < kernel->size(); ++i) kernel->data()[i] = random.uniform(-1.0f, 1.0f);
      Program p;
      const int x = p.add<Embed>(rows_of(values, 3 * width), nullptr, nullptr, 0);
      p.output("y", p.add<ShortConv>("conv", x, 4, kernel, nullptr));
      Session session(std::make_shared<Plan>(p, threads));
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(length));
      std::iota(tokens.begin(), tokens.end(), 0);
      const std::vector<float> whole = run(session, tokens, {0, length});
      for (std::int64_t k = 0; k < width; ++k) {
        const auto product = [&](std::int64_t t) { return t < 0 ? 0.0f : values[t * 3 * width + k] * values[(t * 3 + 2) * width + k]; };
        for (std::int64_t t = 0; t < length; ++t) {
          float sum = (*kernel)[k] * product(t - 3);
          for (std::int64_t j = 1; j < 4; ++j) sum += (*kernel)[j * width + k] * product(t - 3 + j);
          CHECK(same_bits(whole[t * width + k], values[(t * 3 + 1) * width + k] * sum), "short_conv [" << t << ", " << k << "]");
        }
      }
      // In a slot, with another text beside it; every now and then what was run last is forgotten.
      const auto check = [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::int32_t> part{3, 4};
        part.insert(part.end(), tokens.begin() + begin, tokens.begin() + end);
        session.free_slot(9);
        const std::vector<float> y = run(session, part, {0, 2, 2 + end - begin}, {9, 5});
        for (std::int64_t i = 0; i < (end - begin) * width; ++i)
          CHECK(same_bits(y[2 * width + i], whole[begin * width + i]), "short_conv from " << begin << " at " << i);
      };
      for (std::int64_t begin = 0, step = 1; begin < length; begin += step, step = step % 29 + 3) {
        const std::int64_t end = std::min(length, begin + step), back = std::max<std::int64_t>(0, begin - 5);
        check(begin, end);
        session.truncate_slot(5, back);
        check(back, end);
      }
      // the first tokens of a slot that held a whole text
      session.truncate_slot(5, 1);
      check(1, 40);
    }
}

TEST(program_refuses_wrong_short_convs) {
  const std::vector<float> values(24, 1.0f);
  auto kernel = std::make_shared<AlignedBuffer<float>>(4);
  Program p;
  const int x = p.add<Embed>(rows_of(values, 6), nullptr, nullptr, 0), narrow = p.add<Embed>(rows_of(values, 4), nullptr, nullptr, 0);
  const auto refused = [&](int value, std::int64_t taps, const Floats& bias, const char* what) {
    try {
      p.add<ShortConv>("c", value, taps, kernel, bias);
    } catch (const Error&) {
      return;
    }
    CHECK(false, what << " must be refused");
  };
  refused(narrow, 2, nullptr, "a width that is no three parts");
  refused(x, 3, nullptr, "a kernel of another size");
  refused(x, 0, nullptr, "no tap");
  refused(x, 2, kernel, "a bias of another width");
  p.add<ShortConv>("c", x, 2, kernel, nullptr);
}

}  // namespace
}  // namespace aerogel
