// SPDX-License-Identifier: MIT
// SIGTERM as a way to leave in order, for a process that lives long: children
// are ended, output is flushed, and it is quick, whatever the Lua code is doing.
#ifndef LUAPOOL_TERMINATE_H
#define LUAPOOL_TERMINATE_H

#include <lua.h>

// exit_on_term(status, grace): from now on SIGTERM ends this process with that
// status. Its children are given `grace` seconds after their own SIGTERM; 0.2 s
// after ours all are killed that are left. A child of this process starts
// without: it may call this anew.
int terminate_f_exit_on_term(lua_State *L);

// Leaves, never to return, where SIGTERM has come. For where a wait has ended.
void terminate_if_asked(void);

#endif
