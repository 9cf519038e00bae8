// SPDX-License-Identifier: MIT
// Length-prefixed frames over two file descriptors. No Lua.
//
// The parent's end is non-blocking: it asks to write only while something is
// queued, reads once per wake-up, and never waits in here. The worker's end
// blocks. Results are everywhere 1 = done, 0 = not yet, -1 = errno; a peer that
// is gone is -1 with EPIPE.
#ifndef LUAPOOL_CHANNEL_H
#define LUAPOOL_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "buffer.h"

enum {
  CHANNEL_MAGIC = 0xB5,
  CHANNEL_READ = 64 * 1024,  // bytes there is room for in one read at least
  // Memory that an empty buffer keeps, bytes: always, and while frames are large.
  CHANNEL_KEEP = 1024 * 1024,
  CHANNEL_KEEP_MOST = 64 * 1024 * 1024,
};

// The header of a frame as it stands on the wire, 8 bytes, host byte order
// (both ends are this machine).
struct frame_header {
  uint32_t length;  // bytes of payload
  uint16_t task;    // the chunk it belongs to, low 16 bits
  uint8_t type;     // the caller's
  uint8_t magic;
};

struct frame {
  const uint8_t *bytes;  // payload; until the next channel_next or channel_read
  uint32_t length;
  uint16_t task;
  uint8_t type;
};

struct channel {
  int rfd, wfd;  // -1 when closed
  struct buffer in;
  size_t in_pos;  // first unread byte of in
  struct buffer out;
  size_t out_pos;     // first unsent byte of out
  size_t out_frame;   // where the frame being built starts; SIZE_MAX: none is
  uint64_t received;  // bytes read from rfd, or fed, since the beginning
  uint64_t ahead;     // of those, fed before rfd brought them: it still will
  uint64_t sent;
  size_t in_lately, out_lately;  // bytes that the buffers lately had to hold
};

void channel_init(struct channel *c, int rfd, int wfd);
void channel_free(struct channel *c);  // closes what is open, frees buffers

// Gives all memory of empty buffers back; for when nothing more is expected soon.
// Otherwise they keep what frames of late have needed, up to 64 MiB each.
// Frames taken are no longer valid.
void channel_trim(struct channel *c);

// Building a frame straight into c->out: begin, append with buffer_*, then end
// (which fills in the header) or abort (which drops the frame whole).
// A begin drops a frame that was not ended, and an abort without one does
// nothing. channel_end: -1 with EMSGSIZE where the payload passes 2^32-1 bytes,
// and the frame is dropped.
int channel_begin(struct channel *c, uint8_t type, uint16_t task);
int channel_end(struct channel *c);
void channel_abort(struct channel *c);

// Writes what is queued, but nothing of a frame being built. Non-blocking end: 1
// all sent, 0 some is left, either for want of room in the pipe or because this
// call has sent its share (1 MiB). Blocking end: 1. -1: errno (EPIPE: the peer is
// gone).
int channel_flush(struct channel *c);

// Blocking end: queued bytes, then `n` bytes of `bytes`, without copying. No frame
// may be in the making (-1 with EINVAL).
int channel_write(struct channel *c, const void *bytes, size_t n);

// Reads once. 1 something came, 0 nothing now (EAGAIN), -1 errno; end of file
// is -1 with EPIPE. Half-read frames stay where they are: no byte is moved more
// than O(1) times.
int channel_read(struct channel *c);

// Takes the next whole frame. 1 and *f, 0 not whole yet, -1 EPROTO: not a frame
// of ours (bad magic). Never allocates by a length that has not arrived.
int channel_next(struct channel *c, struct frame *f);

// Is there the beginning of a frame, and not its end?
bool channel_partial(const struct channel *c);

// Drops all input that has not been taken, as if it had never been received.
void channel_drop(struct channel *c);

// Appends bytes to the input as if they had been read (salvaged ones).
int channel_feed(struct channel *c, const void *bytes, size_t n);

// The same for bytes that rfd is still going to bring: they are dropped there.
int channel_feed_early(struct channel *c, const void *bytes, size_t n);

#endif
