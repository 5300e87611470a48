#include "tuplespace/codec.hh"

#include "tuplespace/nested.hh"
#include "tuplespace/objects.hh"

namespace godwit {
namespace {

enum class Kind : int { kActual = 0, kAny = 1, kTyped = 2, kRange = 3, kPrefix = 4, kOneOf = 5, kNested = 6 };

void pack_field(Packer& packer, const FieldView& field) {
  switch (field.type) {
    case Type::kNil: packer.add(nullptr); break;
    case Type::kBool: packer.add(field.boolean); break;
    case Type::kInt: packer.add(field.integer); break;
    case Type::kFloat: packer.add(field.real); break;
    case Type::kString: packer.add(field.text); break;
    case Type::kBytes: packer.add(Bin{field.text}); break;
    case Type::kTuple: add(packer, nested_fields(field)); break;
  }
}
void pack_field(Packer& packer, const Field& field) { pack_field(packer, FieldView::of(field)); }

struct PatternPacker {
  Packer& packer;
  void operator()(const Field& actual) const {
    packer.array(2).add(Kind::kActual);
    pack_field(packer, actual);
  }
  void operator()(AnyFormal) const { packer.array(1).add(Kind::kAny); }
  void operator()(Formal formal) const { packer.array(2).add(Kind::kTyped).add(type_name(formal.type)); }
  void operator()(const Range& range) const {
    packer.array(3).add(Kind::kRange);
    pack_field(packer, range.low);
    pack_field(packer, range.high);
  }
  void operator()(const Prefix& prefix) const {
    packer.array(2).add(Kind::kPrefix);
    pack_field(packer, prefix.start);
  }
  void operator()(const OneOf& one_of) const {
    packer.array(2).add(Kind::kOneOf).array(one_of.values.size());
    for (const auto& value : one_of.values) pack_field(packer, value);
  }
  void operator()(const Template& nested) const {
    packer.array(2).add(Kind::kNested);
    pack(nested);
  }
  void pack(const Template& wanted) const {
    packer.array(wanted.arity());
    for (const auto& pattern : wanted.patterns()) std::visit(*this, pattern.value());
  }
};

bool read_tuple(const msgpack::object& from, Tuple& to, size_t depth);

bool read_field(const msgpack::object& from, Field& to, size_t depth) {
  int64_t integer = 0;
  double real = 0;
  std::string_view text;
  Bin bin;
  Tuple tuple;
  if (from.is_nil()) return to = Nil{}, true;
  if (from.type == msgpack::type::BOOLEAN) return to = from.via.boolean, true;
  if (decode(from, integer)) return to = integer, true;
  if (decode(from, real)) return to = real, true;
  if (decode(from, text)) return to = text, is_utf8(text);
  if (decode(from, bin)) return to = Bytes{std::string(bin.data)}, true;
  if (!read_tuple(from, tuple, depth + 1)) return false;
  return to = std::move(tuple), true;
}

std::span<const msgpack::object> elements(const msgpack::object& array) {
  return {array.via.array.ptr, array.via.array.size};
}

bool read_tuple(const msgpack::object& from, Tuple& to, size_t depth) {
  if (from.type != msgpack::type::ARRAY || depth > kMaxTupleNesting) return false;
  for (const auto& element : elements(from)) {
    Field field;
    if (!read_field(element, field, depth)) return false;
    to.add(std::move(field));
  }
  return true;
}

bool read_view(const msgpack::object& from, msgpack::zone& zone, FieldView& to) {
  switch (from.type) {
    case msgpack::type::NIL: return to = {}, true;
    case msgpack::type::BOOLEAN: return to = FieldView::of(from.via.boolean), true;
    case msgpack::type::STR: return to.type = Type::kString, to.text = {from.via.str.ptr, from.via.str.size}, is_utf8(to.text);
    case msgpack::type::BIN: return to.type = Type::kBytes, to.text = {from.via.bin.ptr, from.via.bin.size}, true;
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64: return to = FieldView::of(from.via.f64), true;
    case msgpack::type::ARRAY: {
      Tuple* nested = zone.allocate<Tuple>();
      return to = FieldView::of(*nested), read_tuple(from, *nested, 2);
    }
    default: return to.type = Type::kInt, decode(from, to.integer);
  }
}

bool read_template(const msgpack::object& from, Template& to, size_t depth);

bool read_formal(const msgpack::object& from, Template& to) {
  std::string_view name;
  if (!decode(from, name)) return false;
  for (int i = 0; i <= static_cast<int>(Type::kTuple); ++i)
    if (type_name(static_cast<Type>(i)) == name) return to.add(Formal{static_cast<Type>(i)}), true;
  return false;
}

bool read_one_of(const msgpack::object& from, Template& to, size_t depth) {
  Tuple values;
  if (!read_tuple(from, values, depth)) return false;
  return to.add(OneOf{values.fields()}), true;
}

bool read_pattern(const msgpack::object& from, Template& to, size_t depth) {
  int kind = -1;
  if (from.type != msgpack::type::ARRAY || from.via.array.size == 0) return false;
  auto parts = elements(from);
  if (!decode(parts[0], kind)) return false;
  Field first, second;
  Template nested;
  switch (static_cast<Kind>(kind)) {
    case Kind::kAny: return to.add(AnyFormal{}), parts.size() == 1;
    case Kind::kTyped: return parts.size() == 2 && read_formal(parts[1], to);
    case Kind::kOneOf: return parts.size() == 2 && read_one_of(parts[1], to, depth);
    case Kind::kActual:
      if (parts.size() != 2 || !read_field(parts[1], first, depth)) return false;
      return to.add(std::move(first)), true;
    case Kind::kPrefix:
      if (std::string_view text; parts.size() == 2 && decode(parts[1], text)) return to.add(Prefix{text}), true;  // may end within a character
      if (parts.size() != 2 || !read_field(parts[1], first, depth)) return false;
      return to.add(Prefix{std::move(first)}), true;
    case Kind::kRange:
      if (parts.size() != 3 || !read_field(parts[1], first, depth) || !read_field(parts[2], second, depth)) return false;
      return to.add(Range{std::move(first), std::move(second)}), true;
    case Kind::kNested:
      if (parts.size() != 2 || !read_template(parts[1], nested, depth + 1)) return false;
      return to.add(std::move(nested)), true;
  }
  return false;
}

bool read_template(const msgpack::object& from, Template& to, size_t depth) {
  if (from.type != msgpack::type::ARRAY || depth > kMaxTupleNesting) return false;
  for (const auto& element : elements(from))
    if (!read_pattern(element, to, depth)) return false;
  return true;
}

}  // namespace

void add(Packer& packer, TupleView tuple) {
  packer.array(tuple.size());
  for (const FieldView& field : tuple) pack_field(packer, field);
}
void add(Packer& packer, TemplateView wanted) {
  PatternPacker patterns{packer};
  packer.array(wanted.size());
  for (const PatternView& pattern : wanted) {
    switch (pattern.kind) {
      case PatternView::kAny: patterns(AnyFormal{}); break;
      case PatternView::kFormal: patterns(Formal{static_cast<Type>(pattern.type)}); break;
      case PatternView::kConstraint: std::visit(patterns, pattern.constraint->value()); break;
      case PatternView::kActual:
        packer.array(2).add(Kind::kActual);
        pack_field(packer, pattern.actual);
    }
  }
}
bool decode(const msgpack::object& from, Tuple& to) { return read_tuple(from, to, 1); }
bool decode(const msgpack::object& from, Template& to) { return read_template(from, to, 1); }
bool decode(const msgpack::object& from, msgpack::zone& zone, TupleView& to) {
  if (from.type != msgpack::type::ARRAY) return false;
  auto fields = make_array<FieldView>(zone, from.via.array.size);
  to = fields;
  return std::equal(fields.begin(), fields.end(), from.via.array.ptr, [&](FieldView& field, const msgpack::object& element) {
    return read_view(element, zone, field);
  });
}

std::string encode(const Tuple& tuple) {
  Packer packer;
  add(packer, views_of(tuple));
  return packer.take();
}

std::string encode(const Template& wanted) {
  Packer packer;
  PatternPacker{packer}.pack(wanted);
  return packer.take();
}

Result<Tuple> decode_tuple(std::string_view bytes) {
  auto object = unpack(bytes);
  Tuple tuple;
  if (!object || !read_tuple(object->get(), tuple, 1)) return make_error(std::errc::bad_message, "this is no tuple in msgpack");
  return tuple;
}

Result<Template> decode_template(std::string_view bytes) {
  auto object = unpack(bytes);
  Template wanted;
  if (!object || !read_template(object->get(), wanted, 1))
    return make_error(std::errc::bad_message, "this is no template in msgpack");
  return wanted;
}

}  // namespace godwit
