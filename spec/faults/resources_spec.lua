-- SPDX-License-Identifier: MIT
-- What may run out: descriptors, processes, memory, space; and what thousands
-- of deaths and pools leave behind.
local errors = require "spec.support.errors"
local faults = require "spec.support.faults"
local gate = require "spec.support.gate"
local harm = require "harm"
local leaks = require "spec.support.leaks"

local square = faults.square

describe("a task that closes descriptors", function()
  faults.guard(before_each, after_each)

  -- Task 6 of 12 closes all from `first` up and returns. Its own result may be
  -- there, or lost with the worker; nothing else may be missing.
  local function closing(opts, first, chunksize)
    local pool = faults.pool(opts)
    local path, before = gate.name(), faults.pids(pool)
    local function work(x)
      gate.mark(path)
      if x == 6 then harm.close_from(first) end
      return x * x
    end
    local results, errs = faults.get(pool:map_async(work, faults.numbers(12),
      { on_error = "collect", chunksize = chunksize }))
    for i = 1, 12 do
      if i == 6 and errs[6] then
        assert.is_true(errors.is("lost", errs[6]))
      else
        assert.is_nil(errs[i])
        assert.are.equal(i * i, results[i])
      end
    end
    assert.are.equal(12, gate.count(path))
    gate.eventually(function()
      pool:poll(0)
      return pool:stats().restarts == 1
    end)
    faults.sound(pool)
    local now = faults.pids(pool)
    assert.is_true(now[1] ~= before[1] or now[2] ~= before[2])
  end

  for _, method in ipairs { "fork", "spawn" } do
    for _, chunksize in ipairs { 1, 12 } do
      it(("all from 3 up costs only itself: %s, chunks of %d"):format(method,
        chunksize), function()
        closing({ 2, start_method = method }, 3, chunksize)
      end)
    end
  end

  it("0 to 2 too costs only itself", function() closing({ 2 }, 0, 4) end)

  it("all from 3 up and goes on for ever is noticed", function()
    local pool = faults.pool(2)
    local e = faults.costs_one(pool, "lost", function()
      harm.close_from(3)
      while true do end
    end)
    assert.is_truthy(e.message:find("closed its pipes", 1, true), e.message)
  end)

  it("0 to 2 alone costs nothing", function()
    local pool = faults.pool(1)
    local function work(x)
      if x == 3 then for fd = 0, 2 do harm.close(fd) end end
      return x * x
    end
    assert.are.same({ 1, 4, 9, 16 },
      faults.get(pool:map_async(work, faults.numbers(4))))
  end)
end)

-- Makes a pool and, where that works, uses it; prints how it went, and what is
-- left of it: children, and descriptors more than before.
local MAKE = [[
  local before, limit = leaks.size(leaks.fds()), nil
  local function left()
    if limit then harm.limit("nofile", limit) end
    collectgarbage() collectgarbage()
    io.write(" children ", leaks.size(leaks.children()), " fds ",
      leaks.size(leaks.fds()) - before, "\n")
  end
  local begun = gate.now()
  local ok, e = pcall(function()
    local pool <close> = luapool.Pool(3)
    local list = pool:map(faults.square, faults.numbers(10))
    assert(#list == 10 and list[10] == 100)
  end)
  if ok then io.write "made"
  elseif type(e) == "table" then io.write(e.kind, ": ", e.message)
  else io.write("unclear: ", tostring(e)) end
  left()
  assert(gate.now() - begun < 5)
]]

describe("a pool that cannot be made", function()
  faults.guard(before_each, after_each)

  -- Either it is made after all or the error says what the matter was.
  local function clear(out, words)
    assert.is_truthy(out:find("^made children 0 fds 0\n$")
      or out:find("^broken: could not [^\n]*" .. words
        .. "[^\n]* children 0 fds 0\n$"), out)
  end

  for _, name in ipairs { "EAGAIN", "ENOMEM" } do
    for when = 1, 3 do
      it(("since fork fails says so: %s, number %d"):format(name, when),
        function()
          faults.needs_strace(pending)
          local inject = ("clone:error=%s:when=%d"):format(name, when)
          local out = faults.output(MAKE, { under = faults.strace(inject) })
          assert.is_truthy(out:find("^broken: could not start a worker: "), out)
          clear(out, name == "EAGAIN" and "temporarily unavailable"
            or "allocate memory")
        end)
    end
  end

  -- The first and the last call of each that a pool of three cannot do without.
  -- (One pidfd is opened before, to see whether there are any.)
  local calls = { pipe2 = { 1, 6 }, epoll_create1 = { 1, 1 },
    eventfd2 = { 1, 1 }, epoll_ctl = { 1, 7 }, pidfd_open = { 2, 4 } }
  for call, range in pairs(calls) do
    for when = range[1], range[2] do
      it(("since %s %d fails with EMFILE says so"):format(call, when),
        function()
          faults.needs_strace(pending)
          local inject = ("%s:error=EMFILE:when=%d"):format(call, when)
          local out = faults.output(MAKE, { under = faults.strace(inject) })
          assert.is_falsy(out:find "^made")
          clear(out, "Too many open files")
        end)
    end
  end

  it("for want of address space says so", function()
    local made = 0
    for n = 0, 24 do
      local out = faults.run(([[
        local pages = gate.read "/proc/self/statm":match "%%d+"
        harm.limit("as", tonumber(pages) * 4096 + %d * 65536)
        local ok, e = pcall(luapool.Pool, 3)
        print(ok or type(e) == "table" and e.kind .. ": " .. e.message or e)
        if ok then e:terminate() end
      ]]):format(n)).stdout
      if out == "true\n" then made = made + 1 end
      assert.is_truthy(out == "true\n" or out:find "not enough memory\n$"
        or out:find "^broken: could not .*allocate memory\n$", out)
    end
    assert.is_true(made > 0 and made < 25)
  end)

  for n = 3, 30 do
    it("with few descriptors is made or says so: " .. n, function()
      local out = faults.output((MAKE:gsub("local begun",
        ("limit = harm.limit('nofile', %d) %%0"):format(n))))
      clear(out, "Too many open files")
      if n >= 20 then assert.is_truthy(out:find "^made") end
    end)
  end

  it("under prlimit --nofile=8 says so", function()
    local out = faults.output(MAKE, { under = { "prlimit", "--nofile=8" } })
    clear(out, "Too many open files")
  end)

  it("for an ordinary user without processes says so", function()
    -- Who may read the checkout, be it in root's home.
    local under = { "setpriv", "--reuid=54321", "--regid=54321",
      "--clear-groups", "--inh-caps=+dac_read_search",
      "--ambient-caps=+dac_read_search", "prlimit", "--nproc=2" }
    if not faults.works(table.concat(under, " ") .. " true") then
      pending "no other user can be taken here"
    end
    local result = faults.run(MAKE, { under = under })
    assert.are.equal("", result.stderr)
    clear(result.stdout, "temporarily unavailable")
    assert.is_falsy(result.stdout:find "^made")
  end)
end)

describe("a machine without pidfds", function()
  faults.guard(before_each, after_each)

  for _, name in ipairs { "ENOSYS", "EPERM" } do
    it("has pools all the same: " .. name, function()
      faults.needs_strace(pending)
      local out = faults.output([[
        local pool <close> = luapool.Pool(2)
        for _, fault in ipairs {
          function() harm.kill(leaks.pid(), 9) end,
          function() harm.exit(0) end,
          function() os.exit(3) end,
        } do faults.costs_one(pool, "lost", fault) end
        faults.costs_one(pool, "timeout", function() while true do end end,
          {timeout = 0.2})
        print(pool:stats().restarts)
      ]], { under = faults.strace("pidfd_open:error=" .. name) })
      assert.are.equal("4\n", out)
    end)
  end
end)

describe("a worker that cannot be replaced", function()
  faults.guard(before_each, after_each)
  before_each(function() faults.needs_strace(pending) end)

  -- The workers that are there do the work; the missing one comes when it can.
  it("at first leaves the others at work", function()
    local out = faults.output([[
      local pool <close> = luapool.Pool(2)
      faults.failure(pool:apply_async(os.exit, {1}), "lost")
      for i = 1, 100 do assert(pool:apply(faults.square, {i}) == i * i) end
      faults.sound(pool)
      print(#faults.pids(pool), pool:stats().restarts)
    ]], { under = faults.strace "clone:error=EAGAIN:when=3..6" })
    assert.are.equal("2\t1\n", out)
  end)

  it("ever leaves the others at work, and does not spin", function()
    local out = faults.output([[
      local pool <close> = luapool.Pool(2)
      faults.failure(pool:apply_async(os.exit, {1}), "lost")
      local cpu = os.clock()
      local begun = gate.now()
      while gate.now() - begun < 1 do pool:poll(0.2) end
      print(os.clock() - cpu < 0.3 or os.clock() - cpu)
      for i = 1, 100 do assert(pool:apply(faults.square, {i}) == i * i) end
      print(leaks.size(leaks.children()))
    ]], { under = faults.strace "clone:error=EAGAIN:when=3+" })
    assert.are.equal("true\n1\n", out)
  end)

  it("while no other is there breaks the pool in the end", function()
    local out = faults.output([[
      local pool = luapool.Pool { 1, max_restarts = 3 }
      local first = pool:apply_async(os.exit, {1})
      local second = pool:apply_async(faults.square, {2})
      faults.failure(first, "lost")
      local e = faults.failure(second, "broken")
      print(e.message)
      pool:terminate()
      print(leaks.size(leaks.children()))
    ]], { under = faults.strace "clone:error=EAGAIN:when=2+" })
    assert.are.equal(
      "could not start a worker: Resource temporarily unavailable\n0\n", out)
  end)

  it("for want of descriptors leaves the others at work", function()
    local out = faults.output([[
      local pool <close> = luapool.Pool(2)
      local limit = harm.limit("nofile")
      faults.failure(pool:apply_async(function() os.exit(1) end, {},
        {error_callback = function() harm.limit("nofile", 3) end}), "lost")
      harm.limit("nofile", 3)
      for i = 1, 50 do assert(pool:apply(faults.square, {i}) == i * i) end
      harm.limit("nofile", limit)
      faults.sound(pool)
    ]])
    assert.are.equal("", out)
  end)
end)

describe("the n-th allocation that fails", function()
  faults.guard(before_each, after_each)

  -- For n = 1, 2 ... until nothing fails any more; prints how many there were
  -- and the kinds of what came out of it.
  local function sweep(body, step)
    local result = faults.run([[
      local fds = leaks.size(leaks.fds())
      local function body() ]] .. body .. [[ end
      local outcomes = {}
      for _, for_good in ipairs {false, true} do
        local n = 0
        repeat
          n = n + ]] .. (step or 1) .. [[

          collectgarbage()
          harm.starve(n, for_good)
          local ok, e = pcall(body)
          local failed = harm.starve(0)
          local what = ok and "ok" or type(e) == "table" and e.kind or
            tostring(e):gsub("^.*: ", "")
          outcomes[what] = (outcomes[what] or 0) + 1
          if kept then pcall(kept.terminate, kept) kept = nil end
          collectgarbage() collectgarbage()
          local children = leaks.children()
          if next(children) or leaks.size(leaks.fds()) > fds then
            print("left behind", n, for_good, leaks.size(children),
              leaks.size(leaks.fds()) - fds, what)
            for pid in pairs(children) do harm.kill(pid, 9) end
            os.exit(1, true)
          end
        until not failed
      end
      for what in pairs(outcomes) do
        if what ~= "ok" and what ~= "broken" and what ~= "not enough memory"
          and what ~= "encode" and what ~= "decode" and what ~= "lost" then
          print("unclear", what)
        end
      end
      print((outcomes.broken or 0) + (outcomes["not enough memory"] or 0) > 20)
    ]], { env = faults.preload("starve"), limit = 300 })
    -- On stderr: failures that nobody asked about.
    assert.are.equal("true\n", result.stdout)
    assert.are.equal(0, result.status)
  end

  local bodies = {
    ["leaves nothing of a pool"] = "kept = luapool.Pool(2)",
    ["leaves nothing of a pool under spawn"] =
      "kept = luapool.Pool { 1, start_method = 'spawn' }",
    ["costs a call no more than itself"] = [[
      kept = luapool.Pool(1)
      kept:map(faults.square, {1, 2, 3})
      kept:apply(string.rep, {"x", 100000})
    ]],
  }
  for what, body in pairs(bodies) do
    it(what .. ", every fourth", function() sweep(body, 4) end)
    it(what .. ", every one #slow", function() sweep(body, 1) end)
  end
end)

describe("memory that runs out", function()
  faults.guard(before_each, after_each)

  -- A memory control group of our own below ours: its path, nil where none can
  -- be made.
  local function group()
    local own = gate.read "/proc/self/cgroup":match "memory:(/[^\n]*)"
    local base = own and "/sys/fs/cgroup/memory" .. own
    local name = ("/luapool-spec-%d"):format(leaks.pid())
    if base and faults.works("mkdir " .. base .. name) then
      return base .. name, "memory.limit_in_bytes"
    end
    own = gate.read "/proc/self/cgroup":match "0::(/[^\n]*)"
    base = own and "/sys/fs/cgroup" .. own
    if base and faults.works("mkdir " .. base .. name) then
      if faults.works("test -e " .. base .. name .. "/memory.max") then
        return base .. name, "memory.max"
      end
      os.execute("rmdir " .. base .. name)
    end
  end

  it("kills a worker, which costs that task and is hinted at", function()
    local dir, limit = group()
    if not dir then pending "no memory control group can be made here" end
    local text = ("local dir, limit = %q, %q "):format(dir, limit) .. [[
      local function put(name, value)
        local file = assert(io.open(dir .. "/" .. name, "w"))
        assert(file:write(value))
        assert(file:close())
      end
      put(limit, tostring(64 << 20))
      local pool <close> = luapool.Pool(2)
      local function eat(x)
        if x == 5 then
          put("cgroup.procs", leaks.pid())
          local t = {}
          for i = 1, 1000 do t[i] = ("x"):rep(1 << 20) end
        end
        return x * x
      end
      local results, errs = pool:map(eat, faults.numbers(10),
        {on_error = "collect"})
      for i = 1, 10 do assert(i == 5 or results[i] == i * i) end
      faults.sound(pool)
      print(errs[5].kind, errs[5].signal,
        errs[5].message:match "possibly out of memory")
    ]]
    local result = faults.run(text)
    os.execute("rmdir " .. dir)
    if result.stderr:find "assert" or result.stderr:find "ermission" then
      pending("no limit can be set: " .. result.stderr:match "[^\n]*")
    end
    assert.are.equal("lost\t9\tpossibly out of memory\n", result.stdout)
  end)

  it("in a worker's own limit is an error of the task", function()
    local pool = faults.pool(1)
    local function eat()
      harm.limit("as", 300 << 20)
      local t = {}
      for i = 1, 4000 do t[i] = ("x"):rep(1 << 20) end
      return #t
    end
    local e = pool:apply_async(eat):exception(20)
    assert.is_true(errors.is("task", e) or errors.is("lost", e))
    if e.kind == "task" then
      assert.is_truthy(e.message:find("not enough memory", 1, true))
    end
  end)
end)

describe("CPUs that are fewer than the machine's", function()
  faults.guard(before_each, after_each)

  local count = [[
    local pool <close> = luapool.Pool()
    assert(#pool == luapool.cpu_count())
    print(#pool)
  ]]

  it("by affinity make smaller pools", function()
    local allowed = gate.read "/proc/self/status"
      :match "Cpus_allowed_list:%s*(%d+)"
    assert.are.equal("1\n", faults.output(count,
      { under = { "taskset", "-c", allowed } }))
  end)

  -- Where a control group of our own for CPU time can be made, and what has to
  -- be written where for so much of every 100 ms: version 1, version 2.
  local function place(milliseconds)
    local own = gate.read "/proc/self/cgroup"
    for list, path in own:gmatch "%d+:([^:\n]*):(/[^\n]*)" do
      if ("," .. list .. ","):find(",cpu,", 1, true) then
        return "/sys/fs/cgroup/cpu" .. path,
          milliseconds .. "000", "cpu.cfs_quota_us"
      end
    end
    return "/sys/fs/cgroup" .. (own:match "0::(/[^\n]*)" or "/"),
      milliseconds .. "000 100000", "cpu.max"
  end

  -- The group's directory, nil where none can be made.
  local function group(milliseconds)
    local dir, quota, file = place(milliseconds)
    dir = ("%s/luapool-spec-%d"):format(dir, leaks.pid())
    local set = ("test -e %s && (echo %s >%s)"):format(file, quota, file)
    if faults.works(("mkdir %s && cd %s && %s"):format(dir, dir, set)) then
      return dir
    end
    faults.works("rmdir " .. dir)
  end

  for milliseconds, most in pairs { [50] = 1, [150] = 2 } do
    it(("by a quota make smaller pools: %d ms of 100"):format(milliseconds),
      function()
        local dir = group(milliseconds)
        if not dir then pending "no control group of CPU time here" end
        local result = faults.run(count, { under = { "sh", "-c",
          "echo $$ >" .. dir .. '/cgroup.procs && exec "$0" "$@"' } })
        assert.is_true(faults.works("rmdir " .. dir))
        local all = require "luapool".cpu_count()
        assert.are.equal(math.min(most, all) .. "\n", result.stdout)
      end)
  end
end)

describe("output that cannot be written", function()
  faults.guard(before_each, after_each)

  it("is status 1 and a message", function()
    if not faults.is_host() then pending "stock Lua says nothing" end
    for _, text in ipairs {
      "print(1)", "luapool.Pool(1):apply(math.abs, {1}) print(1)",
      "local pool <close> = luapool.Pool(1) print(1)",
      "io.write 'x' os.exit(true)", "io.write 'x' os.exit(true, true)",
    } do
      local result = faults.run(text, { redirect = ">/dev/full" })
      assert.are.equal(1, result.status)
      assert.is_truthy(result.stderr:find "write", result.stderr)
    end
  end)

  it("of a task is noticed by its pool's script or its task", function()
    local result = faults.run([[
      local pool <close> = luapool.Pool(1)
      local ok, e = pcall(pool.apply, pool, function()
        assert(io.write(("x"):rep(100000), "\n"))
        assert(io.stdout:flush())
      end)
      io.stderr:write(tostring(ok), " ", e.kind, " ", e.message)
    ]], { redirect = ">/dev/full" })
    assert.is_truthy(result.stderr:find "^false task .*No space left",
      result.stderr)
  end)

  it("to a full /tmp is an error of that write alone", function()
    local dir = gate.name()
    local mount = ("mkdir %s && mount -t tmpfs -o size=64k none %s"):format(dir,
      dir)
    if not faults.works("unshare -m sh -c '" .. mount .. "'") then
      os.execute("rmdir " .. dir .. " 2>/dev/null")
      pending "no file system can be mounted here"
    end
    os.execute("rmdir " .. dir .. " 2>/dev/null")
    local path = gate.name()
    local out = faults.output(([[
      local pool <close> = luapool.Pool(2)
      local results, errs = pool:map(function(x)
        if x == 3 then
          local file = assert(io.open(os.getenv "FULL" .. "/file", "w"))
          assert(file:write(("x"):rep(1 << 20)))
          assert(file:close())
        end
        return x * x
      end, faults.numbers(6), {on_error = "collect"})
      print(errs[3].kind, errs[3].message:match "No space left", #results)
    ]]), { env = { FULL = path }, under = { "unshare", "-m", "sh", "-c",
      ("mkdir %s && mount -t tmpfs -o size=64k none %s && \"$0\" \"$@\" "
        .. "&& umount %s && rmdir %s"):format(path, path, path, path) } })
    os.execute("rmdir " .. path .. " 2>/dev/null")
    assert.are.equal("task\tNo space left\t6\n", out)
  end)
end)

describe("in the long run", function()
  faults.guard(before_each, after_each)

  -- Anonymous memory of this process and open descriptors after n rounds are
  -- those after the first few.
  local function flat(body, n)
    local out = faults.output([[
      local function resident()
        collectgarbage() collectgarbage()
        return tonumber(gate.read("/proc/self/status"):match "RssAnon:%s+(%d+)")
      end
      local function body() ]] .. body .. [[ end
      local n = ]] .. n .. [[

      for i = 1, n // 4 do body() end
      local fds, memory = leaks.size(leaks.fds()), resident()
      for i = 1, n do body() end
      print(leaks.size(leaks.fds()) - fds, resident() - memory < 600
        or resident() - memory, leaks.size(leaks.children()))
    ]], { limit = 120 })
    return out
  end

  local death = [[
    pool = pool or luapool.Pool { 2, max_restarts = 10 }
    faults.failure(pool:apply_async(os.exit, {1}), "lost")
    assert(pool:apply(faults.square, {3}) == 9)
  ]]
  local life = [[
    local pool <close> = luapool.Pool(1)
    assert(pool:apply(faults.square, {3}) == 9)
  ]]

  it("deaths leave nothing", function()
    assert.are.equal("0\ttrue\t2\n", flat(death, 100))
  end)

  it("pools leave nothing", function()
    assert.are.equal("0\ttrue\t0\n", flat(life, 100))
  end)

  it("a thousand deaths leave nothing #slow", function()
    assert.are.equal("0\ttrue\t2\n", flat(death, 1000))
  end)

  it("a thousand pools leave nothing #slow", function()
    assert.are.equal("0\ttrue\t0\n", flat(life, 1000))
  end)

  it("a pool that is never used leaves no more than it had", function()
    local before = leaks.size(leaks.fds())
    for _ = 1, 20 do faults.pool(2):terminate() end
    assert.are.equal(before, leaks.size(leaks.fds()))
    assert.are.equal(4, faults.pool(1):apply(square, { 2 }))
  end)
end)
