-- Wireshark's dissector for `cofferdam audit export --format pcapng`, link type 147 (USER0):
--
--   wireshark -X lua_script:docs/cofferdam.lua audit.pcapng
--   tshark -X lua_script:docs/cofferdam.lua -r audit.pcapng -Y 'cofferdam.verdict == "refused"'
--
-- A packet: magic "cfda", version u8 = 1, zero u8 * 3, bytes of the texts u32; the texts, each
-- what u8, length u16, UTF-8; then the record's body (docs/audit-format.md, section 3). All
-- numbers are little-endian. The texts were made harmless by the exporter.

local proto = Proto("cofferdam", "cofferdam audit record")

local f = {
  kind = ProtoField.string("cofferdam.kind", "Kind"),
  side = ProtoField.string("cofferdam.side", "Side"),
  verdict = ProtoField.string("cofferdam.verdict", "Verdict"),
  facility = ProtoField.string("cofferdam.facility", "Facility"),
  edge = ProtoField.string("cofferdam.edge", "Edge"),
  form = ProtoField.string("cofferdam.form", "Form"),
  method = ProtoField.string("cofferdam.method", "Method"),
  rule = ProtoField.string("cofferdam.rule", "Rule"),
  reporter = ProtoField.string("cofferdam.reporter", "Reporter"),
  peer = ProtoField.string("cofferdam.peer", "Peer"),
  meaning = ProtoField.string("cofferdam.meaning", "Meaning"),
  batch = ProtoField.string("cofferdam.batch", "Batch"),
  detail = ProtoField.string("cofferdam.detail", "Detail"),
  trace = ProtoField.string("cofferdam.trace", "Trace"),
  span = ProtoField.string("cofferdam.span", "Span"),
  parent = ProtoField.string("cofferdam.parent", "Parent span"),
  index = ProtoField.uint64("cofferdam.index", "Record"),
  monotonic = ProtoField.uint64("cofferdam.monotonic", "Monotonic clock (ns)"),
  reported = ProtoField.uint64("cofferdam.reported", "Reported as of (ns)"),
  sequence = ProtoField.uint64("cofferdam.sequence", "Sequence"),
  length = ProtoField.uint64("cofferdam.length", "Length"),
  descriptors = ProtoField.uint8("cofferdam.descriptors", "Descriptors"),
  value = ProtoField.uint32("cofferdam.value", "Value"),
  payload = ProtoField.uint32("cofferdam.payload", "Payload length"),
  digest = ProtoField.bytes("cofferdam.digest", "Payload digest"),
  hash = ProtoField.bytes("cofferdam.hash", "Hash"),
}
proto.fields = {}
for _, field in pairs(f) do
  table.insert(proto.fields, field)
end

local malformed = ProtoExpert.new("cofferdam.malformed", "Not a record of this form",
  expert.group.MALFORMED, expert.severity.ERROR)
local suspicious = ProtoExpert.new("cofferdam.suspicious", "Alarm, loss, denial or refusal",
  expert.group.SECURITY, expert.severity.WARN)
proto.experts = { malformed, suspicious }

-- What each text is, by its number.
local texts = { "kind", "side", "verdict", "facility", "edge", "form", "method", "rule",
  "reporter", "peer", "meaning", "batch", "detail", "trace", "span", "parent" }

local BODY = 128

-- What the numbers at the body's offsets are: field, offset, bytes.
local numbers = {
  { "index", 16, 8 }, { "monotonic", 32, 8 }, { "reported", 40, 8 }, { "sequence", 48, 8 },
  { "length", 56, 8 }, { "descriptors", 6, 1 }, { "value", 88, 4 }, { "payload", 92, 4 },
}

function proto.dissector(buffer, pinfo, root)
  pinfo.cols.protocol = "cofferdam"
  local tree = root:add(proto, buffer())
  local length = buffer:len()
  if length < 12 + BODY or buffer(0, 4):string() ~= "cfda" or buffer(4, 1):uint() ~= 1 then
    tree:add_proto_expert_info(malformed)
    return length
  end
  local stop = 12 + buffer(8, 4):le_uint()
  if stop + BODY > length then
    tree:add_proto_expert_info(malformed)
    return length
  end
  local words = {}
  local at = 12
  while at + 3 <= stop do
    local what, bytes = texts[buffer(at, 1):uint()], buffer(at + 1, 2):le_uint()
    if at + 3 + bytes > stop then
      tree:add_proto_expert_info(malformed)
      return length
    end
    if what and bytes > 0 then
      local range = buffer(at + 3, bytes)
      words[what] = range:string(ENC_UTF_8)
      tree:add_packet_field(f[what], range, ENC_UTF_8)
    end
    at = at + 3 + bytes
  end
  for _, number in ipairs(numbers) do
    tree:add_le(f[number[1]], buffer(stop + number[2], number[3]))
  end
  tree:add(f.hash, buffer(stop + 96, 32))
  if buffer(stop + 92, 4):le_uint() > 0 and stop + BODY + 32 <= length then
    tree:add(f.digest, buffer(stop + BODY, 32))
  end

  -- The end that sent stands on the left.
  local from, to = words.reporter, words.peer
  if words.side == "receiver" or words.side == "witness" then
    from, to = words.peer, words.reporter
  end
  pinfo.cols.src = from or ""
  pinfo.cols.dst = to or ""
  local info = {}
  for _, what in ipairs({ "kind", "edge", "form", "method", "verdict", "meaning", "detail" }) do
    if words[what] then
      table.insert(info, words[what])
    end
  end
  pinfo.cols.info = table.concat(info, " ")
  local kind = words.kind
  if kind == "alarm" or kind == "loss" or kind == "denial"
    or words.verdict == "refused" or words.verdict == "killed" then
    tree:add_proto_expert_info(suspicious)
  end
  return length
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, proto)
