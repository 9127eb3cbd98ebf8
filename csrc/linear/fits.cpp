#include "linear/fits.h"

#include "linear/source_q4.h"

namespace aerogel {

std::string refusal(const std::string& format, bool quantized_x, const WeightSource& source) {
  if (format == "grouped_q8") return refusal_grouped_q8(source);
  if (format == "grouped_qn") return refusal_grouped_qn(source);
  if (quantized_x != source.quantized())
    return std::string("takes ") + (quantized_x ? "int8 codes" : "float values") + ", got " +
           (source.quantized() ? "int8 codes" : source.grouped() ? "int8 codes with a scale each group" : "float values");
  if (format == "dense_f16" && !source.f16()) return std::string("takes float16 values, got ") + source.numbers() + " ones";
  if (format == "dense_q4") return SourceQ4::refusal(source, false);
  if (format == "masked_q4") return SourceQ4::refusal(source, true);
  return "";
}

}  // namespace aerogel
