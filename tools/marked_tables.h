// Tables in a page of documentation that code knows, each between the two lines
// "<!-- NAME: written by bin/TOOL -->" and "<!-- end of NAME -->".
#pragma once

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

namespace monet::tools {

struct MarkedTable {
  std::string name;
  std::string text;  // lines
};

// A tool's main: `TOOL FILE` returns 1 when a table in the file differs, `TOOL --write FILE` writes
// them there.
inline int KeepTables(int argc, char** argv, const std::string& tool,
                      const std::vector<MarkedTable>& tables) {
  const auto fail = [&](const std::string& path, const std::string& what) {
    std::cerr << tool << ": " << path << " " << what << "\n";
    return 1;
  };
  const bool write = argc == 3 && std::string(argv[1]) == "--write";
  if (argc != 2 && !write) return fail("[--write] FILE", "is expected");
  const std::string path = argv[argc - 1];
  std::ifstream in(path, std::ios::binary);
  std::string page((std::istreambuf_iterator<char>(in)), {});
  in.close();
  const std::string before = page;
  for (const MarkedTable& table : tables) {
    const std::string first = "<!-- " + table.name + ": written by bin/" + tool + " -->\n";
    const size_t marker = page.find(first);
    const size_t begin = marker + first.size();
    const size_t end = page.find("<!-- end of " + table.name + " -->\n");
    if (marker == std::string::npos || end == std::string::npos || end < begin) {
      return fail(path, "lacks the markers of the table of " + table.name);
    }
    page.replace(begin, end - begin, table.text);
  }
  if (page == before) return 0;
  if (!write) {
    return fail(path, "is not what the code says: build/release/bin/" + tool + " --write it");
  }
  std::ofstream out(path, std::ios::binary);
  out << page;
  return out.flush() ? 0 : fail(path, "cannot be written");
}

}  // namespace monet::tools
