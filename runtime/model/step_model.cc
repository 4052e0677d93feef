#include "runtime/model/step_model.h"

namespace monet {

void StepBatch::Clear() {
  token_ids.clear();
  positions.clear();
  sequences.clear();
  mask_slots.clear();
  block_tables.clear();
  table_stride = 0;
  logit_rows.clear();
}

}  // namespace monet
