// Records both kinds of graphs on a runtime that is not there and says what they are: graphs DRIVER FAILING_CALL.
#include "../../csrc/cuda/graph.hpp"

#include <cstdio>
#include <cstdlib>

namespace {

using namespace pyfirstorder::cuda;

cudaGraphExec_t recorded() {
  if (!has_conditions()) return record([](cudaStream_t stream) { fake::launch(stream, "step"); });
  const auto begin = [](cudaStream_t stream, unsigned long long condition) {
    fake::launch(stream, "begin(" + std::to_string(condition) + ")");
  };
  return record_piece(begin, [](cudaStream_t stream) {
    fake::launch(stream, "step");
    fake::launch(stream, "step");
    fake::launch(stream, "end");
  });
}

}  // namespace

int main(int, char** words) {
  fake::driver = std::atoi(words[1]);
  fake::failing = std::atoi(words[2]);
  try {
    const cudaGraphExec_t graph = recorded();
    std::printf("%s\n", graph->text.c_str());
    StepGraph(graph, nullptr).launch();
  } catch (const std::runtime_error& error) {
    std::printf("error: %s\n", error.what());
  }
  std::printf("%d calls, %d graphs and %d streams left\n", fake::calls, fake::graphs, fake::streams);
}
