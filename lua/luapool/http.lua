-- SPDX-License-Identifier: MIT
--- HTTP/1.1 for scripts: requests that go on at the same time over
-- connections that are kept, `http://` alone. No proxies, no redirects, and no
-- headers but those given. It is part of the host (host/http.c), where this
-- file is not read.
--
-- A client and its transfers belong to the process that made them: in a worker
-- every call raises.
-- @module luapool.http
-- @usage local client <close> = require("luapool.http").client()
-- local transfer = client:start { url = "http://127.0.0.1:8080/", timeout = 5 }
-- client:wait(transfer)
-- print(assert(transfer:result()).body)

--- Makes a client, which keeps connections.
-- @function client
-- @return client

--- Percent-encodes all but letters, digits and `-._~`.
-- @function escape
-- @param text string
-- @return string

--- Starts a request.
-- @function client:start
-- @param request `url`; `method` (GET; POST where there is a body); `headers`,
--   a list of lines `"Name: value"`; `body`, a string; `timeout` and
--   `connect_timeout` in seconds, default none and libcurl's 300; `once`, true:
--   never sent a second time, where otherwise it is sent anew if a kept
--   connection ends without an answer; `fresh`, true: over a new connection;
--   `streaming`, true: the body comes by `transfer:write`
-- @return transfer; wrong arguments are errors, all else is a result

--- Lets all transfers of the client go on until one is over.
-- @function client:wait
-- @param transfer of this client
-- @param seconds default: no limit
-- @return true: it is over; false: time is up; nil: interrupted, which
--   `luapool.host`'s `interrupted` tells about

--- Cancels its transfers and closes its connections. A second time does
-- nothing.
-- @function client:close

--- What came of a transfer that is over.
-- @function transfer:result
-- @return `{status=, headers=, body=, reused=}`: header names in lower case,
--   values of the same name joined by `, `; whether over a kept connection
-- @return or nil, a message, and its kind: connect, timeout, send, recv,
--   aborted or other

--- Sends more of a streamed body, in a chunk or more. Waits while more than
-- 1 MiB is unsent.
-- @function transfer:write
-- @param bytes string
-- @return true, or nil and a message: the other side reads no more, see
--   `transfer:result`; or `interrupted`, with the bytes kept

--- Ends a streamed body.
-- @function transfer:finish
-- @param trailers lines `"Name: value"`; a header `Trailer` announces them
-- @return true, or nil and a message

--- Ends a transfer that is of no interest any more, and its connection. A
-- second time does nothing.
-- @function transfer:cancel
error("luapool.http is part of the luapool host: run this script with luapool",
  0)
