// What the store reads of tuples and templates: its own encoding, which damaged memory may hold, msgpack, and what people
// type; over a stored corpus and random mutations of it. A plain program: store_fuzz CORPUS [ROUNDS] [SEED].
#include <cstring>
#include <memory>

#include "tests/support/fuzz.hh"
#include "tuplespace/codec.hh"
#include "tuplespace/match.hh"
#include "tuplespace/store/encoding.hh"
#include "tuplespace/text.hh"

namespace {

using namespace godwit;
using testing::check;

// Bytes that end where they end, so that a sanitizer sees who reads on.
struct Exact {
  explicit Exact(std::string_view bytes) : data(new char[bytes.size()]), size(bytes.size()) {
    if (size) std::memcpy(data.get(), bytes.data(), size);
  }
  std::string_view view() const { return {data.get(), size}; }
  std::unique_ptr<char[]> data;
  size_t size;
};

std::string encoded(const Tuple& tuple) {
  auto views = views_of(tuple);
  std::string bytes(store::encoded_size(views), 0);
  check(store::encode_to(bytes.data(), views) == bytes.data() + bytes.size(), "the size of an encoding");
  return bytes;
}

void fuzz_fields(std::string_view bytes) {
  store::Fields fields, some;
  if (!fields.read(bytes)) return;
  check(fields.view().size() <= bytes.size(), "fields take bytes");
  Tuple tuple = to_tuple(fields.view());
  std::string again = encoded(tuple);
  store::Fields read;
  check(read.read(again) && identical(to_tuple(read.view()), tuple), "round trip of fields");
  check(some.read(bytes, 2) && some.view().size() <= 2, "the first fields");
  for (const FieldView& field : fields.view()) store::hash(field, 1);
}

void fuzz_wanted(std::string_view bytes) {
  static const Tuple kTuple{"task", 42, 3.5, true, Nil{}, Bytes{"x"}, Tuple{1}};
  static const std::vector<FieldView> kFields = views_of(kTuple);
  for (size_t arity = 0; arity <= kFields.size(); ++arity) store::match_encoded(bytes, TupleView(kFields).subspan(0, arity));
  auto templates = store::decode_wanted(bytes);
  TemplateViews views(templates);
  std::string again = store::encode_wanted(views);
  auto read = store::decode_wanted(again);
  check(read.size() == templates.size(), "as many templates");
  for (size_t i = 0; i < read.size(); ++i) check(identical(read[i], templates[i]), "round trip of templates");
}

template <class Read, class Write>
void round_trip(std::string_view bytes, Read read, Write write, const char* what) {
  auto first = read(bytes);
  if (!first) return;
  auto second = read(write(*first));
  check(second && identical(*second, *first), what);
}

void fuzz_texts(std::string_view bytes) {
  round_trip(bytes, [](auto b) { return decode_tuple(b); }, [](auto& t) { return encode(t); }, "tuple in msgpack");
  round_trip(bytes, [](auto b) { return decode_template(b); }, [](auto& t) { return encode(t); }, "template in msgpack");
  round_trip(bytes, [](auto b) { return parse_tuple(b); }, [](auto& t) { return to_text(t); }, "tuple as text");
  round_trip(bytes, [](auto b) { return parse_template(b); }, [](auto& t) { return to_text(t); }, "template as text");
  round_trip(bytes, [](auto b) { return parse_json(b); }, [](auto& t) { return to_json(t); }, "tuple as JSON");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  unsigned long rounds = argc > 2 ? std::stoul(argv[2]) : 1000, seed = argc > 3 ? std::stoul(argv[3]) : std::random_device{}();
  testing::fuzz(argv[1], rounds, seed, [](const std::string& input, bool) {
    Exact bytes(input);
    fuzz_fields(bytes.view());
    fuzz_wanted(bytes.view());
    fuzz_texts(bytes.view());
  });
}
