-- Posts the given files in turn, each a body, and prints what was measured as one line of JSON.
-- wrk -s bench/wrk.lua -H HEADER... URL -- FILE...
local requests, turn = {}, 0

function init(args)
  for i, path in ipairs(args) do
    local file = assert(io.open(path, "rb"))
    requests[i] = wrk.format("POST", nil, nil, file:read("*a"))
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "seconds": %f, "p50": %f, "p95": %f, "p99": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
