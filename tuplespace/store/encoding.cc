#include "tuplespace/store/encoding.hh"

#include <cstring>

#include "tuplespace/match.hh"
#include "tuplespace/nested.hh"

namespace godwit::store {
namespace {

template <class T>
char* put(char* p, T value) {
  std::memcpy(p, &value, sizeof value);
  return p + sizeof value;
}

char* put_text(char* p, std::string_view text) {
  p = put(p, static_cast<uint32_t>(text.size()));
  std::memcpy(p, text.data(), text.size());
  return p + text.size();
}

uint64_t value_size(const FieldView& field) {
  switch (field.type) {
    case Type::kNil: return 0;
    case Type::kBool: return 1;
    case Type::kInt:
    case Type::kFloat: return 8;
    case Type::kString:
    case Type::kBytes: return 4 + field.text.size();
    case Type::kTuple: return 4 + (field.tuple ? encoded_size(nested_fields(field)) : field.text.size());
  }
  return 0;
}

char* put_value(char* p, const FieldView& field) {
  switch (field.type) {
    case Type::kNil: return p;
    case Type::kBool: return put(p, field.boolean);
    case Type::kInt:
    case Type::kFloat: return put(p, field.integer);
    case Type::kString:
    case Type::kBytes: return put_text(p, field.text);
    case Type::kTuple:
      if (!field.tuple) return put_text(p, field.text);
      auto views = nested_fields(field);
      return encode_to(put(p, static_cast<uint32_t>(encoded_size(views))), views);
  }
  return p;
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  template <class T>
  bool get(T* value) {
    if (left() < sizeof *value) return false;
    std::memcpy(value, at_, sizeof *value);
    at_ += sizeof *value;
    return true;
  }
  bool bytes(size_t length, std::string_view* value) {
    if (left() < length) return false;
    *value = {at_, length};
    at_ += length;
    return true;
  }
  bool text(std::string_view* value) {
    uint32_t length;
    return get(&length) && bytes(length, value);
  }
  bool truth(bool* value) {
    uint8_t byte;
    if (!get(&byte) || byte > 1) return false;
    *value = byte;
    return true;
  }
  bool value(uint8_t type, FieldView* field) {
    field->type = static_cast<Type>(type);
    switch (field->type) {
      case Type::kNil: return true;
      case Type::kBool: return truth(&field->boolean);
      case Type::kInt:
      case Type::kFloat: return get(&field->integer);
      case Type::kString:
      case Type::kBytes: return text(&field->text);
      case Type::kTuple: field->tuple = nullptr; return text(&field->text);
    }
    return false;
  }

 private:
  size_t left() const { return static_cast<size_t>(end_ - at_); }

  const char* at_;
  const char* end_;
};

uint64_t mix(uint64_t a, uint64_t b) {
  __uint128_t product = static_cast<__uint128_t>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Less than 8 bytes as a number, which is theirs alone among as many; without a loop, as wyhash does it.
uint64_t few_bytes(const char* p, size_t n) {
  auto byte = [p](size_t i) { return uint64_t{static_cast<unsigned char>(p[i])}; };
  if (n < 4) return n == 0 ? 0 : byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16;
  uint32_t first, last;
  std::memcpy(&first, p, 4);
  std::memcpy(&last, p + n - 4, 4);
  return first | uint64_t{last} << 32;
}

uint64_t hash_bytes(std::string_view bytes, uint64_t h) {
  h ^= bytes.size() * 0x9E3779B97F4A7C15ull;
  const char* p = bytes.data();
  size_t n = bytes.size();
  uint64_t word;
  for (; n >= 8; n -= 8, p += 8) {
    std::memcpy(&word, p, 8);
    h = mix(h ^ word, 0xA0761D6478BD642Full);
  }
  return mix(h ^ few_bytes(p, n), 0xE7037ED1A0B428DBull);
}

}  // namespace

uint64_t encoded_size(TupleView fields) {
  uint64_t size = 2 + fields.size();
  for (const FieldView& field : fields) size += value_size(field);
  return size;
}

char* encode_to(char* p, TupleView fields) {
  p = put(p, static_cast<uint16_t>(fields.size()));
  for (const FieldView& field : fields) *p++ = static_cast<char>(field.type);
  for (const FieldView& field : fields) p = put_value(p, field);
  return p;
}

bool Fields::read(std::string_view encoded, size_t limit) {
  Reader reader{encoded};
  uint16_t arity;
  std::string_view types;
  if (!reader.get(&arity) || !reader.bytes(arity, &types)) return false;
  count_ = std::min<size_t>(arity, limit);
  FieldView* fields = few_;
  if (count_ > kFew) {
    many_.resize(count_);
    fields = many_.data();
  }
  for (uint32_t i = 0; i < count_; ++i)
    if (!reader.value(static_cast<uint8_t>(types[i]), new (&fields[i]) FieldView)) return false;
  return true;
}

namespace {

enum class Form : uint8_t { kRange, kPrefix, kOneOf, kNested };

// Appends to a string.
class Writer {
 public:
  explicit Writer(std::string& bytes) : bytes_(bytes) {}

  template <class T>
  void add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void value(const FieldView& field) {
    size_t at = bytes_.size();
    bytes_.resize(at + value_size(field));
    put_value(bytes_.data() + at, field);
  }
  void wanted(TemplateView wanted) {
    add(static_cast<uint16_t>(wanted.size()));
    for (const PatternView& want : wanted) add(want.kind), add(want.type);
    for (const PatternView& want : wanted) {
      if (want.kind == PatternView::kActual) value(want.actual);
      if (want.kind == PatternView::kConstraint) constraint(*want.constraint);
    }
  }

  // Of the constraints.
  void operator()(const Range& range) { add(Form::kRange), field(range.low), field(range.high); }
  void operator()(const Prefix& prefix) { add(Form::kPrefix), field(prefix.start); }
  void operator()(const OneOf& one_of) {
    add(Form::kOneOf), add(static_cast<uint32_t>(one_of.values.size()));
    for (const Field& one : one_of.values) field(one);
  }
  void operator()(const Template& nested) {
    TemplateViews views(nested);
    add(Form::kNested), wanted(std::span<const TemplateView>(views)[0]);
  }
  template <class T>
  void operator()(const T&) {}  // no constraints

 private:
  void field(const Field& field) {
    FieldView view = FieldView::of(field);
    add(view.type), value(view);
  }
  void constraint(const Pattern& pattern) {
    size_t at = bytes_.size();
    add(uint32_t{0});
    std::visit(*this, pattern.value());
    uint32_t length = static_cast<uint32_t>(bytes_.size() - at - sizeof length);
    std::memcpy(bytes_.data() + at, &length, sizeof length);
  }

  std::string& bytes_;
};

// One template, field by field: f(i, want, bytes of its constraint). returns its arity; nullopt: the bytes are damaged.
template <class F>
std::optional<uint16_t> read_template(Reader& reader, F f) {
  uint16_t arity;
  std::string_view kinds;
  if (!reader.get(&arity) || !reader.bytes(2u * arity, &kinds)) return std::nullopt;
  for (uint32_t i = 0; i < arity; ++i) {
    PatternView want;
    want.kind = static_cast<PatternView::Kind>(kinds[2 * i]);
    want.type = static_cast<uint8_t>(kinds[2 * i + 1]);
    std::string_view constraint;
    if (want.kind > PatternView::kConstraint) return std::nullopt;
    if (want.kind == PatternView::kActual && !reader.value(want.type, &want.actual)) return std::nullopt;
    if (want.kind == PatternView::kConstraint && !reader.text(&constraint)) return std::nullopt;
    f(i, want, constraint);
  }
  return arity;
}

std::optional<Field> read_field(Reader& reader) {
  uint8_t type;
  FieldView view;
  if (!reader.get(&type) || !reader.value(type, &view)) return std::nullopt;
  return to_field(view);
}

std::optional<Template> read_owned(Reader& reader, int depth);

// A nested template is `depth` templates deep: damage does not lead down for ever.
std::optional<Pattern> read_constraint(std::string_view bytes, int depth = 0) {
  Reader reader{bytes};
  uint8_t form;
  if (!reader.get(&form)) return std::nullopt;
  switch (static_cast<Form>(form)) {
    case Form::kRange: {
      auto low = read_field(reader), high = read_field(reader);
      if (low && high) return Range{*low, *high};
      break;
    }
    case Form::kPrefix:
      if (auto start = read_field(reader)) return Prefix{*start};
      break;
    case Form::kOneOf: {
      OneOf one_of;
      uint32_t count;
      if (!reader.get(&count)) break;
      for (std::optional<Field> field; one_of.values.size() < count && (field = read_field(reader));) one_of.values.push_back(*field);
      if (one_of.values.size() == count) return one_of;
      break;
    }
    case Form::kNested:
      if (auto nested = read_owned(reader, depth + 1)) return *nested;
      break;
  }
  return std::nullopt;
}

std::optional<Template> read_owned(Reader& reader, int depth) {
  Template all;
  bool whole = depth <= static_cast<int>(kMaxTupleNesting) + 1;
  auto add = [&](uint32_t, const PatternView& want, std::string_view bytes) {
    if (!whole) return;
    if (want.kind != PatternView::kConstraint) return all.add(to_template({&want, 1}).patterns()[0]);
    auto constraint = read_constraint(bytes, depth);
    if (constraint) all.add(*constraint);
    whole = constraint.has_value();
  };
  if (!whole || !read_template(reader, add) || !whole) return std::nullopt;
  return all;
}

}  // namespace

std::string encode_wanted(std::span<const TemplateView> any_of) {
  std::string bytes;
  Writer writer(bytes);
  writer.add(static_cast<uint32_t>(any_of.size()));
  for (TemplateView wanted : any_of) writer.wanted(wanted);
  return bytes;
}

std::optional<bool> match_encoded(std::string_view any_of, TupleView tuple) {
  Reader reader{any_of};
  uint32_t count;
  if (!reader.get(&count)) return std::nullopt;
  for (uint32_t t = 0; t < count; ++t) {
    bool matches = true, whole = true;
    auto arity = read_template(reader, [&](uint32_t i, const PatternView& want, std::string_view bytes) {
      matches = matches && i < tuple.size();
      if (!matches) return;
      if (want.kind != PatternView::kConstraint) return void(matches = match(TemplateView(&want, 1), tuple.subspan(i, 1)));
      auto constraint = read_constraint(bytes);
      whole = whole && constraint;
      matches = constraint && match(*constraint, tuple[i]);
    });
    if (!arity || !whole) return std::nullopt;
    if (matches && *arity == tuple.size()) return true;
  }
  return false;
}

std::vector<Template> decode_wanted(std::string_view any_of) {
  std::vector<Template> all;
  Reader reader{any_of};
  uint32_t count;
  if (!reader.get(&count)) return all;
  for (uint32_t t = 0; t < count; ++t) {
    auto one = read_owned(reader, 0);
    if (!one) break;
    all.push_back(std::move(*one));
  }
  return all;
}

uint64_t hash(const FieldView& field, uint64_t seed) {
  uint64_t h = mix(seed ^ static_cast<uint64_t>(field.type), 0x8EBC6AF09C88C6E3ull);
  switch (field.type) {
    case Type::kNil: return h;
    case Type::kBool: return mix(h ^ field.boolean, 0x589965CC75374CC3ull);
    case Type::kInt: return mix(h ^ static_cast<uint64_t>(field.integer), 0x589965CC75374CC3ull);
    case Type::kFloat: {
      double value = field.real == 0 ? 0.0 : field.real;  // -0.0 is equal to it
      uint64_t bits;
      std::memcpy(&bits, &value, 8);
      return mix(h ^ bits, 0x589965CC75374CC3ull);
    }
    case Type::kString:
    case Type::kBytes: return hash_bytes(field.text, h);
    case Type::kTuple:
      for (const FieldView& nested : nested_fields(field)) h = hash(nested, h);
      return h;
  }
  return h;
}

}  // namespace godwit::store

namespace godwit {

std::vector<FieldView> nested_fields(const FieldView& nested) {
  std::vector<FieldView> views;
  if (nested.tuple) {
    for (const Field& field : nested.tuple->fields()) views.push_back(FieldView::of(field));
  } else if (store::Fields fields; fields.read(nested.text)) {
    views.assign(fields.view().begin(), fields.view().end());
  }
  return views;
}

Tuple to_tuple(TupleView fields) {
  Tuple tuple;
  for (const FieldView& field : fields) tuple.add(to_field(field));
  return tuple;
}

Field to_field(const FieldView& view) {
  switch (view.type) {
    case Type::kNil: return Nil{};
    case Type::kBool: return view.boolean;
    case Type::kInt: return view.integer;
    case Type::kFloat: return view.real;
    case Type::kString: return view.text;
    case Type::kBytes: return Bytes{std::string(view.text)};
    case Type::kTuple: return view.tuple ? *view.tuple : to_tuple(nested_fields(view));
  }
  return {};
}

}  // namespace godwit
