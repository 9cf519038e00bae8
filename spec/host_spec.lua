-- SPDX-License-Identifier: MIT
-- The host's command line: side by side with stock lua5.4, and what differs.
local command = require "spec.support.command"
local script = require "spec.support.script"

local stock = command.absolute("lua5.4")
local host = script.interpreter()
if not host:find("luapool$") then host = command.absolute("build/luapool") end

local function tostring_is(body)
  return { "lua x", files = { x = ([[
    error(setmetatable({}, {__tostring = function() %s end}))
    ]]):format(body) } }
end

-- Ctrl-C for x once it has printed something, and then run for a while: for two
-- ticks of its CPU clock, so that it is in its loop and no longer in print.
local INTERRUPT = [=[
  (exec -a lua "$LUA" x >o) &
  ran() { read -ra stat </proc/$!/stat; echo "${stat[13]}"; }
  until [[ -s o ]]; do :; done
  begun=$(ran)
  until (($(ran) >= begun + 2)); do :; done
  kill -INT $!
  wait $!
]=]

-- One line of shell a case, or {line, files=, env=, stdin=}; `lua` stands for
-- the interpreter.
local same = {
  ["version"] = {
    "lua -v", "lua -v -v", "lua -v -e 'print(1)'", "lua -v -- x",
    { "lua -v x.lua", files = { ["x.lua"] = "print(1)" } },
  },
  ["wrong options"] = {
    "lua -x", "lua --x", "lua --version", "lua -vv", "lua -ii", "lua -Ex",
    "lua -e", "lua -l", "lua -e -v", "lua -l -e", "lua -W1", "lua -v -e",
    "lua -i -x", "lua -e 'print(1)' -x",
  },
  ["-e"] = {
    "lua -e 'print(1)'", "lua '-eprint(1)'", "lua -e 'print(1)' -e 'print(2)'",
    "lua -e ''", "lua -e 'x ='", "lua -e 'print(1' -e 'print(2)'",
    "lua -e 'error(1)' -e 'print(2)'", "lua -e 'return 1'",
    [[lua -e 'print(debug.getinfo(1, "S").source)']],
    [[lua -e 'print(...)' -e 'print(arg[0], #arg)' ]],
    { "lua -e 'x = 1' x.lua", files = { ["x.lua"] = "print(x)" } },
    { "lua -e 'error(1)' x.lua", files = { ["x.lua"] = "print(x)" } },
  },
  ["-l"] = {
    "lua -l math -e 'print(math.pi)'", "lua -lmath -e 'print(math.pi)'",
    "lua -l s=string -e 'print(s == string)'", "lua -l s= -e 'print(s)'",
    "lua -l =string -e 'print(_G[\"\"] == string)'",
    "lua -l a=b=c", "lua -l nosuch -e 'print(1)'", "lua -l string-v2",
    { "lua -l x -e 'print(x)'", files = { ["x.lua"] = "return {...}, 2" },
      env = { LUA_INIT = "print = function(t) io.write(#t, t[1]) end" } },
    { "lua -l x.y -e 'print(_G[\"x.y\"])'",
      files = { ["x.lua"] = "" },
      env = { LUA_INIT = "package.preload['x.y'] = function() return 7 end" } },
    { "lua -l bad", files = { ["bad.lua"] = "error 'on purpose'" } },
    { "lua -l bad", files = { ["bad.lua"] = "x x" } },
  },
  ["-W and warn"] = {
    "lua -W -e 'warn(\"a\", \"b\")'", "lua -e 'warn(\"a\")'",
    "lua -e 'warn(\"@on\") warn(\"a\") warn(\"@off\") warn(\"b\")'",
    "lua -e 'warn(\"a\")' -W -e 'warn(\"b\")'",
    "lua -W -e 'setmetatable({}, {__gc = function() error(1) end})'",
    "lua -W -e 'x = setmetatable({}, {__gc = function() error{} end})'",
  },
  ["scripts"] = {
    "lua nosuch.lua", "lua .", "lua -- nosuch", "lua -- -", "lua ''",
    { "lua x", files = { x = "print(...) return 1, 2" } },
    { "lua x a '' 'b c' -v --", files = { x = "print(#arg, ...)" } },
    { "lua -- x -v", files = { x = "print(...)" } },
    { "lua -- -x", files = { ["-x"] = "print(arg[0], arg[-1])" } },
    { "lua x", files = { x = [[#!/bin/lua
        print(debug.getinfo(1).currentline)]] } },
    { "lua x", files = { x = "#!/bin/lua" } },
    { "lua x", files = { x = "\xEF\xBB\xBFprint(1)" } },
    { "lua x", files = { x = "\xEF\xBB\xBF#!x\nprint(1)" } },
    { "lua x", files = { x = "" } },
    { "lua x", files = { x = "x = = 1" } },
    { "lua x", files = { x = "\27Lua nonsense" } },
    { "lua x && lua y a b", files = { x = [[
        local f = io.open("y", "wb")
        f:write(string.dump(function(...) print(...) end))
        f:close()]] } },
    { "lua x $(seq 1000)", files = { x = "print(#arg, select('#', ...))" } },
    { "lua -e 'arg[1] = 7' x a", files = { x = "print(...)" } },
    { "lua -e 'arg = {1, 2, 3}' x a", files = { x = "print(...)" } },
    { "lua -e 'arg = nil' x a", files = { x = "print(...)" } },
    { "lua -e 'arg = setmetatable({}, {__len = function() return 2 end})' x",
      files = { x = "print(...)" } },
    { "lua -e 'arg = setmetatable({}, {__len = function() return 1e7 end})' x",
      files = { x = "print(...)" } },
  },
  ["arg"] = {
    { "lua -W -e 'y = 1' -- x a b", files = { x = [[
        for i = -9, 9 do io.write(i, "=", tostring(arg[i]), " ") end]] } },
    "lua -e 'for i = -9, 9 do io.write(i, \"=\", tostring(arg[i]), \" \") end'",
    { "lua - a b", stdin = "print(arg[-1], arg[0], ...)" },
  },
  ["standard input"] = {
    { "lua", stdin = "print(1) print(...)" },
    { "lua -", stdin = "print(1) print(...)" },
    { "lua - a b", stdin = "print(...)" },
    { "lua -e 'x = 1' -", stdin = "print(x)" },
    { "lua -e 'x = 1'", stdin = "print(x)" },
    { "lua -W", stdin = "warn 'a'" },
    { "lua -E", stdin = "print(1)" },
    { "lua -lmath", stdin = "print(1)" },
    { "lua", stdin = "x = = 1" },
    { "lua", stdin = "error 'a'" },
    { "lua", stdin = "#!x\nprint(1)" },
    { "lua", stdin = "print(io.read())\nnot read by the chunk" },
    { "lua x", files = { x = "print(io.read('a', 'l'))" }, stdin = "a\nb" },
  },
  ["LUA_INIT"] = {
    { "lua -e 'print(x)'", env = { LUA_INIT = "x = 1" } },
    { "lua -e 'print(x)'",
      env = { LUA_INIT = "x = 1", LUA_INIT_5_4 = "x = 2" } },
    { "lua -E -e 'print(x)'", env = { LUA_INIT = "x = 1" } },
    { "lua -e 'print(x)'", env = { LUA_INIT = "@init" },
      files = { init = "x = 1" } },
    { "lua -e 'print(x)'", env = { LUA_INIT = "@nosuch" } },
    { "lua -e 'print(x)'", env = { LUA_INIT = "error 'a'" } },
    { "lua -e 'print(x)'", env = { LUA_INIT_5_4 = "x x" } },
    { "lua -v", env = { LUA_INIT = "print(arg[1], arg[0])" } },
    { "lua -e 'print(x)'", env = { LUA_INIT = "" } },
    { "lua -e 'print(package.path, package.cpath)'",
      env = { LUA_PATH = "a;;b", LUA_CPATH_5_4 = "c" } },
    { "lua -E -e 'print(package.path, package.cpath)'",
      env = { LUA_PATH = "a;;b", LUA_CPATH_5_4 = "c" } },
  },
  ["errors"] = {
    "lua -e 'error()'", "lua -e 'error(nil)'", "lua -e 'error{}'",
    "lua -e 'error(true)'", "lua -e 'error(42)'", "lua -e 'error(print)'",
    "lua -e 'error(\"text\", 0)'", "lua -e 'error(\"a\\0b\")'",
    "lua -e 'local function f() error \"deep\" end f()'",
    { "lua x", files = { x = [[
        local function f(n) return n > 0 and 1 + f(n - 1) or nil .. 1 end
        f(60)]] } },
    "lua -e 'local function f() return 1 + f() end f()'",
    "lua -e 'string.rep()'", "lua -e 'local x <close> = 1'",
    tostring_is "return 'me'", tostring_is "return 1",
    tostring_is "return {}", tostring_is "error 'in'", tostring_is "error()",
    "lua -e 'error(setmetatable({}, {__name = \"Mine\"}))'",
    "lua -e 'coroutine.wrap(function() error \"in\" end)()'",
    "lua -e 'coroutine.wrap(function() error{} end)()'",
    { "lua x", files = { x = "local function f() error('a') end\nf()" } },
    { "lua x", files = { x = "error('a', 2)" } },
    { "lua x", files = { x = "require 'y'" } },
    { "lua x", files = { x = [[
        local t <close> = setmetatable({}, {__close = function(_, e)
          print(e) error("again", 0) end})
        error("first", 0)]] } },
  },
  ["the end"] = {
    "lua -e 'os.exit()'", "lua -e 'os.exit(true)'", "lua -e 'os.exit(false)'",
    "lua -e 'os.exit(3)'", "lua -e 'os.exit(3, true)'",
    "lua -e 'os.exit(0, true)'", "lua -e 'os.exit(256)'",
    "lua -e 'os.exit(-1)'", "lua -e 'os.exit(\"x\")'",
    "lua -e 'io.write \"no newline\"'", "lua -e 'io.write(1) os.exit(2)'",
    "lua -e 'x = setmetatable({}, {__gc = function() print(1) end})'",
    "lua -e 'x = setmetatable({}, {__gc = print}) os.exit(0)'",
    "lua -e 'x = setmetatable({}, {__gc = function() print(1) end}) error(2)'",
    { "lua x; cat y", files = { x = "io.output('y') io.write(1)" } },
    { "lua x; cat y", files = { x = "io.output('y') io.write(1) error()" } },
    { "lua x", files = { x = [[
        local t <close> = setmetatable({}, {__close = function() print(1) end})
        os.exit(4, true)]] } },
    "lua -e 'print(io.stdout:close())'",
  },
  ["the prompt"] = {
    { "lua -i", stdin = "" },
    { "lua -i", stdin = "1 + 1\nx = 3\nx, 'a'\n=x\n= x\nreturn x, x\n" },
    { "lua -i", stdin = "print(1)\n\n  \nf = function()\n" ..
      "return 7\nend\nf()\n" },
    { "lua -i", stdin = "x = [[a\n\n  b]]\nx\n'last line'" },
    { "lua -i", stdin = "x = = 1\n1 +\n* 2\n" },
    { "lua -i", stdin = "error 'a'\nerror{}\nerror()\nlocal function f() " ..
      "error 'b' end f()\nprint 'alive'\n" },
    { "lua -i", stdin = "print = nil\n1\n" ..
      "print = function() error 'x' end\n1\nprint = error\n2" },
    { "lua -i", stdin = "goto x\nbreak\nlocal x = 1\nx\nx.y\n:\n" },
    { "lua -i", stdin = "_PROMPT = 'p' _PROMPT2 = 'q'\nx = \n1\n" ..
      "_PROMPT = nil\n" },
    { "lua -i", stdin = "_PROMPT = 12\n_PROMPT = setmetatable({}, " ..
      "{__tostring = function() return 't' end})\n1\n" },
    { "lua -i", stdin = "_PROMPT = setmetatable({}, " ..
      "{__tostring = function() error 'x' end})\n1\n" },
    { "lua -i", stdin = "nil\nfalse\nnil, nil\n(function() end)()\n#arg\n" },
    { "lua -i", stdin = "os.exit(5)\n" },
    { "lua -i", stdin = "-- only a comment\n--[[ long\n]] 4\n" },
    { "lua -i", stdin = "table.unpack({}, 1, 100)\n" ..
      "table.unpack({}, 1, 1e6)\n" },
    { "lua -i -e 'x = 1'", stdin = "x\n" },
    { "lua -e 'error(1)' -i", stdin = "x\n" },
    { "lua -i x a", files = { x = "y = ... return 5" }, stdin = "y\n" },
    { "lua -i x", files = { x = "error 'a'" }, stdin = "1\n" },
    { "lua -i -", stdin = "print(1)" },
    { "lua -i", env = { LUA_INIT = "_PROMPT = ''" }, stdin = "1\nx =\n2\n" },
    { "lua -i", stdin = "coroutine.wrap(function() error 'c' end)()\n" },
    { "lua -i", stdin = "warn '@on'\nwarn 'a'\n" },
  },
  ["Ctrl-C"] = {
    { INTERRUPT, files = { x = "print(1) while true do end" } },
    { INTERRUPT, files = { x = [[
        print(pcall(function()
          print(1) while true do end
        end))
        print(pcall(error, "still here"))]] } },
  },
}

describe("the host, side by side with lua", function()
  for topic, cases in pairs(same) do
    for _, case in ipairs(cases) do
      local line = case[1] or case
      local title = line .. (case.stdin and " <<< " .. case.stdin or "")
      it(topic .. ": " .. title:sub(1, 70):gsub("%c", " "), function()
        local opts = case[1] and case or nil
        local expected = command.run(stock, line, opts)
        assert.are.same(expected, command.run(host, line, opts))
        assert.are_not.equal(124, expected.status)
      end)
    end
  end
end)

describe("the host", function()
  local function run(line, opts) return command.run(host, line, opts) end

  it("names itself as it was called", function()
    local result = run([["$LUA" -e 'error(1, 0)']])
    assert.are.equal(host .. ": 1", result.stderr:match("^[^\n]*"))
  end)

  it("tells that stdout could not be written", function()
    for _, line in ipairs {
      "lua -e 'print(1)'", "lua -e 'print(1) os.exit()'", "lua -v",
      "lua -e 'print(1) os.exit(true, true)'", "lua -e 'print(1) error(2)'",
      "lua -e 'print(1) os.exit(3)'", "lua -i -e 'print(1)'",
      "lua -e 'print(1) io.stdout:flush()'",
      "lua -e 'io.stdout:setvbuf \"no\" print(1)'",
    } do
      local result = run(line .. " >/dev/full")
      assert.are.equal(1, result.status, line)
      assert.is_truthy(result.stderr:find(
        "lua: cannot write to standard output", 1, true), line)
    end
  end)

  it("has nothing to tell where nothing was written", function()
    assert.are.same({ stdout = "", stderr = "", status = 0 },
      run("lua -e 'x = 1' >/dev/full"))
  end)

  it("ends quietly when nobody reads on", function()
    local result = run("lua -e 'while true do print(1) end' | head -n 1")
    assert.are.same({ stdout = "1\n", stderr = "", status = 0 }, result)
  end)

  it("undoes what it inherited", function()
    local check = [[
      local function status(field)
        for line in io.lines("/proc/self/status") do
          local set = line:match(field .. ":%s*(%x+)")
          if set then return tonumber(set, 16) end
        end
      end
      assert(status "SigBlk" == 0)
      assert(status "SigIgn" & (1 << 16) == 0) -- SIGCHLD
      local name = os.tmpname()
      io.open(name, "w"):close()
      os.remove(name)
      print(os.execute "exit 3")]]
    for _, how in ipairs { "--ignore-signal=CHLD", "--block-signal" } do
      assert.are.same({ stdout = "nil\texit\t3\n", stderr = "", status = 0 },
        run("env " .. how .. ' "$LUA" x', { files = { x = check } }), how)
    end
    for fds, expected in pairs { ["<&-"] = "", [">&-"] = "", ["2>&-"] = "",
      ["<&- >&- 2>&-"] = "" } do
      local result = run(("lua x %s; cat y"):format(fds), { files = { x = [[
        local file = io.open("y", "w")
        print(1)
        io.stderr:write(2)
        file:write(tostring(io.read()))
        file:close()]] } })
      assert.are.equal("nil", result.stdout:gsub("^1\n", ""), fds .. expected)
    end
  end)

  it("runs scripts that name it in their first line", function()
    local result = run("chmod +x x && ./x a b", { files = {
      x = "#!" .. host .. "\nprint(arg[0], ...)" } })
    assert.are.equal("./x\ta\tb\n", result.stdout)
  end)

  it("reads lines of any length at the prompt", function()
    local result = run("lua -i", { stdin = ("x"):rep(2000) .. " = 1\n" ..
      "#'" .. ("y"):rep(600) .. "', " .. ("x"):rep(2000) .. "\n" })
    assert.is_truthy(result.stdout:find("\n600\t1\n", 1, true))
  end)

  it("says what the input that ended lacks", function()
    local result = run("lua -i", { stdin = "for i = 1, 2 do\n" })
    assert.are.equal("stdin:1: 'end' expected near <eof>\n", result.stderr)
  end)

  it("has luapool built in", function()
    local result = run([[lua -e '
      package.path, package.cpath = "", ""
      print(select(2, require "luapool"), type(require "luapool.host"))']])
    assert.are.same({ stdout = ":preload:\ttable\n", stderr = "",
      status = 0 }, result)
  end)

  it("keeps what is built in from what scripts do to globals", function()
    local result = run([[lua -e '
      local luapool, out, list = require "luapool", io.stdout, table.concat
      local pool <close> = luapool.Pool(1)
      local function said(x)
        luapool.worker()
        return type .. x .. tostring
      end
      type, tostring, pairs, os, require = "a ", " text", 1, 2, 3
      table.insert, package.searchers, package.preload = nil, {}, {}
      out:write(list(pool:map(said, {1, 2}), ", "), "\n")
      local ok, e = pcall(pool.apply, pool, function() error("raised", 0) end)
      out:write(e.kind, " ", e.message, "\n")
      out:write(#luapool.Pool(2):map(said, {1, 2, 3}), "\n")
      ']])
    assert.are.same({ stdout = "a 1 text, a 2 text\ntask raised\n3\n",
      stderr = "", status = 0 }, result)
  end)

  it("holds the only Lua of its process", function()
    local result = run([[lua -l cjson -e '
      print(cjson.encode{1})
      for line in io.lines "/proc/self/maps" do
        assert(not line:find "liblua5.4.so", line)
      end']])
    assert.are.same({ stdout = "[1]\n", stderr = "", status = 0 }, result)
  end)

  it("comes back to the prompt at Ctrl-C", function()
    local result = run([==[
      mkfifo in; touch out
      (exec -a lua "$LUA" -i <in >out) &
      exec 3>in
      said() { until [[ $(<out) == *"$1" ]]; do sleep 0.01; done; }
      interrupt() { sleep 0.1; kill -INT $!; }
      echo 'x = 41' >&3; said $'41\n> '
      interrupt; said $'\n> \n> '
      echo "io.stdout:write('loop', 'ing'):flush() while 1 do end" >&3
      said looping; interrupt; said 'looping> '
      echo 'for' >&3; said '>> '
      interrupt; said $'>> \n> '
      echo 'x + 1' >&3; said $'42\n> '
      exec 3>&-; wait $!]==])
    assert.are.equal(0, result.status)
    assert.are.equal("interrupted!\nstack traceback:\n" ..
      "\tstdin:1: in main chunk\n\t[C]: in ?\n", result.stderr)
  end)
end)
