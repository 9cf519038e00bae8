// SPDX-License-Identifier: MIT
// The one place that waits: an epoll instance over the pipes and pidfds of a
// pool's workers, as a Lua object. Its fd is what pool:fileno() shows.
#ifndef LUAPOOL_POLLER_H
#define LUAPOOL_POLLER_H

#include <lua.h>
#include <stdbool.h>

void poller_open(lua_State *L);

// Ends this process's wait, or the next one, with nil. Async-signal-safe.
void poller_interrupt(void);

// Was there one since the last call?
bool poller_interrupted(void);

// Has there been one that nobody has asked about?
bool poller_interrupt_pending(void);

// For those who wait elsewhere: a descriptor that is readable while an interrupt
// is pending, never to be read. -1 with errno. Whoever got it gives it back, in
// the same process.
int poller_use_interrupts(void);
void poller_leave_interrupts(void);

// Waits until fd is readable. False where the process of pidfd ended first, at
// an interrupt, or after `seconds` (HUGE_VAL: never). Stores for how many seconds
// this process was stopped meanwhile, 0 if it was not; unknown without a limit.
bool poller_wait_for(int fd, int pidfd, double seconds, double *frozen);

// poller() -> poller | nil, message
int poller_f_new(lua_State *L);

// poll({fd, ...}, seconds or nil) -> true: one is readable, false: time is up,
// nil: interrupted; then, where this process was stopped meanwhile, for how many
// seconds
int poller_f_poll(lua_State *L);

#endif
