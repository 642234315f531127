// libsentencepiece behind plain C: no C++ type and no exception comes through.
#ifndef C_SENTENCE_PIECE_H
#define C_SENTENCE_PIECE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A loaded model. It never changes; all functions but the last may be called from several threads at once.
typedef struct EgressSentencePiece EgressSentencePiece;

/// Loads a serialised ModelProto. The bytes are copied.
///
/// The library trusts some tables of a model (the normaliser's trie): the caller has checked them.
///
/// Returns NULL with a sentence in `message` (capacity bytes, ended by NUL) if the library refuses the model.
EgressSentencePiece *_Nullable egress_sentencepiece_load(
    const uint8_t *_Nonnull model, size_t size, char *_Nonnull message, size_t capacity);

/// The number of pieces.
int32_t egress_sentencepiece_count(const EgressSentencePiece *_Nonnull model);

/// The pieces of a text. On success gives an array to be freed by egress_sentencepiece_free_ids and its length.
///
/// Returns 0, or -1 with a sentence in `message`.
int32_t egress_sentencepiece_encode(
    const EgressSentencePiece *_Nonnull model, const uint8_t *_Nullable text, size_t size,
    int32_t *_Nullable *_Nonnull ids, size_t *_Nonnull count, char *_Nonnull message, size_t capacity);

void egress_sentencepiece_free_ids(int32_t *_Nullable ids);

void egress_sentencepiece_free(EgressSentencePiece *_Nullable model);

#ifdef __cplusplus
}
#endif

#endif
