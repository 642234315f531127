#include "CSentencePiece.h"

#include <sentencepiece_processor.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

// The library logs to stderr what it also returns as a status. The function is exported but not in the header.
namespace sentencepiece {
namespace logging {
void SetMinLogLevel(int level);
}
}  // namespace sentencepiece

struct EgressSentencePiece {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

void setMessage(char *message, size_t capacity, const char *text) {
  if (capacity == 0) return;
  std::strncpy(message, text, capacity - 1);
  message[capacity - 1] = '\0';
}

/// Runs `body`, which returns a Status, and turns a failure or an exception into a sentence.
template <typename Body>
bool guarded(char *message, size_t capacity, Body body) {
  try {
    const auto status = body();
    if (status.ok()) return true;
    setMessage(message, capacity, status.error_message());
  } catch (const std::exception &error) {
    setMessage(message, capacity, error.what());
  } catch (...) {
    setMessage(message, capacity, "unknown failure");
  }
  return false;
}

}  // namespace

EgressSentencePiece *egress_sentencepiece_load(
    const uint8_t *model, size_t size, char *message, size_t capacity) {
  static std::once_flag silenced;
  std::unique_ptr<EgressSentencePiece> result;
  const bool loaded = guarded(message, capacity, [&] {
    // Levels: 0 info, 1 warning, 2 error, 3 fatal.
    std::call_once(silenced, [] { sentencepiece::logging::SetMinLogLevel(3); });
    result = std::make_unique<EgressSentencePiece>();
    return result->processor.LoadFromSerializedProto(
        std::string_view(reinterpret_cast<const char *>(model), size));
  });
  return loaded ? result.release() : nullptr;
}

int32_t egress_sentencepiece_count(const EgressSentencePiece *model) {
  return model->processor.GetPieceSize();
}

int32_t egress_sentencepiece_encode(
    const EgressSentencePiece *model, const uint8_t *text, size_t size, int32_t **ids, size_t *count,
    char *message, size_t capacity) {
  *ids = nullptr;
  *count = 0;
  std::vector<int> pieces;
  const bool encoded = guarded(message, capacity, [&] {
    return model->processor.Encode(
        std::string_view(size == 0 ? "" : reinterpret_cast<const char *>(text), size), &pieces);
  });
  if (!encoded) return -1;
  if (pieces.empty()) return 0;
  int32_t *copy = static_cast<int32_t *>(std::malloc(pieces.size() * sizeof(int32_t)));
  if (copy == nullptr) {
    setMessage(message, capacity, "out of memory");
    return -1;
  }
  for (size_t index = 0; index < pieces.size(); ++index) copy[index] = pieces[index];
  *ids = copy;
  *count = pieces.size();
  return 0;
}

void egress_sentencepiece_free_ids(int32_t *ids) { std::free(ids); }

void egress_sentencepiece_free(EgressSentencePiece *model) { delete model; }
