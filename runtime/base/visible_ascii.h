// Names that people give: they stand in logs, metrics and YAML as they are.
#pragma once

namespace monet {

// Visible ASCII without quotes and backslashes.
inline bool IsNameCharacter(char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; }

}  // namespace monet
