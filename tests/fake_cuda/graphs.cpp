// What csrc/cuda/graph.hpp does on a runtime that is not there:
//
//   graphs record DRIVER FAILING_CALL    records both kinds of graphs and says what they are
//   graphs end FAILING_EVENT             lets go of a graph, where a call about an event may fail
//   graphs wait                          waits for milestones that are not ready at first
//   graphs refuse                        is called while the caller records a graph
#include "../../csrc/cuda/graph.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

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

void say_what_is_recorded() {
  const cudaGraphExec_t graph = recorded();
  std::printf("%s\n", graph->text.c_str());
  StepGraph(graph, nullptr).launch();
}

int looks = 0;

void wait_for_milestones() {
  Milestones milestones(nullptr);
  fake::queries_until_ready = 3;
  for (int64_t i = 0; i < 4 * Milestones::kSteps; ++i) milestones.pass(i, [] { ++looks; });
}

void refuse() {
  FakeGraph graph;
  FakeStream stream = {nullptr};
  refuse_recording(&stream);
  std::printf("taken\n");
  stream.recorded = &graph;
  refuse_recording(&stream);
}

void run(const std::string& what) {
  if (what == "wait") wait_for_milestones();
  else if (what == "refuse") refuse();
  else say_what_is_recorded();
}

}  // namespace

int main(int count, char** words) {
  const std::string what = words[1];
  fake::driver = what == "record" ? std::atoi(words[2]) : 0;
  if (what == "record") fake::failing = std::atoi(words[3]);
  if (what == "end" && count > 2) fake::failing_event = std::atoi(words[2]);
  try {
    run(what);
  } catch (const std::runtime_error& error) {
    std::printf("error: %s\n", error.what());
  }
  std::printf("%d calls, %d graphs and %d streams left\n", fake::calls, fake::graphs, fake::streams);
  std::printf("%d calls about events, %d executables and %d events left, %d waits, %d looks, last error %d\n",
              fake::event_calls, fake::executables, fake::events, fake::waits, looks, int(fake::last_error));
}
