// SPDX-License-Identifier: MIT
// What the frames between a parent and its worker mean. Both ends are one build
// on one machine, so structs go over the pipe as they are.
#ifndef LUAPOOL_FRAMES_H
#define LUAPOOL_FRAMES_H

#include <stdint.h>

enum frame_type {
  // Parent to worker.
  FRAME_INIT = 1,  // a message: the initializer and its arguments (spawn only)
  FRAME_FUNCTION,  // struct frame_call, then a message: the function of a call
  FRAME_FORGET,    // struct frame_call: no more chunks of that call will come
  FRAME_DEFINE,    // a registered value, as the session made it
  FRAME_ENVIRONMENT,  // "name=value" sets a variable, "name" removes it
  FRAME_CHUNK,        // struct frame_chunk, then `count` items

  // Worker to parent.
  FRAME_READY,   // empty: the initializer has returned
  FRAME_RESULT,  // a message: what the function returned
  FRAME_ERROR,   // a message: kind, message, traceback, value
};

// What stands in the header of a frame. The upper half of a result's or error's
// says which item of its chunk it is for, modulo 16: one sent twice, by whatever
// a task does, is not taken for the next item's.
#define FRAME_TYPE(type, item) ((uint8_t)((type) | (item) << 4))

enum chunk_kind {
  CHUNK_MAP,   // an item is one value; the first result counts
  CHUNK_STAR,  // an item is an argument list; the first result counts
  CHUNK_CALL,  // the item is a function and its arguments; all results count
};

struct frame_call {
  uint32_t call;
};

// An item is its length in bytes (uint32_t), then a message.
struct frame_chunk {
  uint32_t call;   // whose function is run; of no meaning in CHUNK_CALL
  uint32_t count;  // items
  int64_t seed;
  uint64_t nth;    // the call's number on its pool, for the random stream
  uint64_t first;  // index of the first item, likewise
  uint8_t kind;
  uint8_t seeded;
  uint8_t timed;  // the start of each item is noted in the ledger
  uint8_t unused[5];
};

#endif
