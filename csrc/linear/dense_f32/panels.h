// How tokens meet panels of floats: the loops around the register tile, which every vector instruction set compiles for itself.
// Included by tile_<isa>.h inside its anonymous namespace, behind kPanel, kTile, kChunk, kBlock, copy_chunk and multiply_tokens.
//
// What differs between the formats is a Source:
//
//     kStep                            chunks of columns are multiples of it
//     stream(unit)                     the rows of one panel from its first column to its last, to be read once
//     block(unit, k, count, spare)     columns [k, k + count) of a panel, to be read by many tiles; `spare` holds a chunk of a
//                                      panel as floats, for a format that expands its weights once for all of them
//     fetch(unit, k, until)            asks the cache for columns [k, until) of a panel
//
// stream and block give rows: next<Stream>(w0, w1) loads the floats of the next column; Stream: from memory, prefetched ahead
// (next(w0, w1) on NEON, which reads both alike).

// At most kTile tokens: each panel is read once, from end to end.
template <class Source>
void run_few(const LinearTask& task, const Source& source) {
  float* scratch = static_cast<float*>(task.scratch);
  const float* x = static_cast<const float*>(task.x);
  for (std::int64_t k = 0; k < source.k; k += kChunk)
    copy_chunk(x + k, task.ldx, task.m, source.k - k < kChunk ? source.k - k : kChunk, scratch + k * task.m);
  for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
    const std::int64_t first = unit * kPanel;
    const dense_f32::Tile tile{scratch, source.k, task.bias ? task.bias + first : nullptr, false, task.y + first, task.ldy,
                               source.n - first < kPanel ? source.n - first : kPanel};
    multiply_tokens<true>(task.m, tile, source.stream(unit));
  }
}

// A block of tokens: a chunk of a panel stays in L1 while all its tiles pass, their x in L2.
template <class Source>
void run_block(const LinearTask& task, const Source& source, std::int64_t token, std::int64_t tokens) {
  float* scratch = static_cast<float*>(task.scratch);
  float* spare = scratch + (task.m < kBlock ? task.m : kBlock) * kChunk;
  // Tiles and chunks of nearly equal size: a last tile of one token would cost as much as one of four.
  const std::int64_t tiles = (tokens + kTile - 1) / kTile;
  const std::int64_t chunks = (source.k + kChunk - 1) / kChunk;
  const std::int64_t width = ((source.k + chunks - 1) / chunks + Source::kStep - 1) / Source::kStep * Source::kStep;
  for (std::int64_t k = 0; k < source.k; k += width) {
    const std::int64_t count = source.k - k < width ? source.k - k : width;
    copy_chunk(static_cast<const float*>(task.x) + token * task.ldx + k, task.ldx, tokens, count, scratch);
    for (std::int64_t unit = task.unit_begin; unit < task.unit_end; ++unit) {
      const std::int64_t first = unit * kPanel;
      dense_f32::Tile tile{scratch, count, task.bias ? task.bias + first : nullptr, k != 0, task.y + token * task.ldy + first, task.ldy,
                           source.n - first < kPanel ? source.n - first : kPanel};
      const auto rows = source.block(unit, k, count, spare);
      // Each tile fetches its share of the next panel's chunk.
      for (std::int64_t i = 0; i < tiles; ++i) {
        if (unit + 1 < task.unit_end) source.fetch(unit + 1, k + count * i / tiles, k + count * (i + 1) / tiles);
        const std::int64_t size = tokens * (i + 1) / tiles - tokens * i / tiles;
        multiply_tokens<false>(size, tile, rows);
        tile.x += size * kChunk;
        tile.y += size * task.ldy;
      }
    }
  }
}

template <class Source>
void run_panels(const LinearTask& task, const Source& source) {
  if (task.m <= kTile) return run_few(task, source);
  const std::int64_t blocks = (task.m + kBlock - 1) / kBlock;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t begin = task.m * b / blocks;
    run_block(task, source, begin, task.m * (b + 1) / blocks - begin);
  }
}
