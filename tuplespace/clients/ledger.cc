#include "tuplespace/clients/ledger.hh"

#include <algorithm>

#include "tuplespace/nested.hh"
#include "tuplespace/store/durability.hh"
#include "tuplespace/store/errors.hh"

namespace godwit::clients {
namespace {

constexpr std::string_view kOpen = "open", kOver = "over";

FieldView number_view(uint64_t value) { return FieldView::of(static_cast<int64_t>(value)); }
PatternView asks(const FieldView& field) { return PatternView::of(field); }

uint64_t number_of(const FieldView& field) { return static_cast<uint64_t>(field.integer); }
Kept kept_of(TupleView fields) {
  return {std::string(fields[2].text), {number_of(fields[3]), number_of(fields[4])}, to_tuple(nested_fields(fields[5]))};
}

void read_into(Left& left, TupleView fields) {
  if (fields[1].type == Type::kString) {
    left.over = true;
    left.key = fields[2].text;
  } else if (fields.size() == 3) {
    left.open.push_back(number_of(fields[1]));
  } else if (fields[5].type == Type::kTuple) {
    left.taken[number_of(fields[1])] = kept_of(fields);
  } else {
    left.key = fields[2].text;
    left.begun = std::max(left.begun, number_of(fields[3]));
    left.floor = std::max(left.floor, number_of(fields[4]));
    left.records.push_back({number_of(fields[1]), std::string(fields[5].text)});
  }
}

}  // namespace

Result<Ledger> Ledger::open(const shared::Segment& segment) {
  auto store = store::Store::open(segment, kSessionsSpace);
  auto desk = store::Desk::of(segment);
  if (!desk) return desk.error();
  if (!store) {
    store = store::Store::create(segment, kSessionsSpace, {});
    if (!store) return store.error();
    auto kept = store::keep_from_now_on(**desk, kSessionsSpace, store::Keeps::kWithAll, store::new_id(), 0);
    if (!kept) return kept.error();
  }
  store::Transaction* transaction = store::begin_transaction(**desk);
  if (!transaction) return store::segment_full();
  return Ledger(segment, std::move(*store), transaction);
}

Result<void> Ledger::commit() {
  auto done = store::Store::commit(segment_, *transaction_);
  if (!done) roll_back();
  return done;
}

void Ledger::roll_back() {
  if (auto desk = store::Desk::of(segment_)) store::conclude(**desk, *transaction_);
}

Result<void> Ledger::put(store::Transaction& transaction, std::initializer_list<FieldView> fields) {
  return store_.out_within(transaction, TupleView(fields.begin(), fields.size()));
}

Result<bool> Ledger::drop(store::Transaction& transaction, std::initializer_list<PatternView> wanted, const store::Store::Receive& receive) {
  TemplateView view(wanted.begin(), wanted.size());
  return store_.in_within(transaction, {&view, 1}, nullptr, receive);
}

Result<void> Ledger::put_record(store::Transaction& transaction, const Record& record) {
  return put(transaction, {FieldView::bytes(record.session), number_view(record.serial), FieldView::string(record.key), number_view(record.begun),
                           number_view(record.floor), FieldView::bytes(record.answers)});
}

Result<void> Ledger::drop_record(store::Transaction& transaction, std::string_view session, uint64_t serial) {
  PatternView is_bytes = PatternView::of(Type::kBytes), is_int = PatternView::of(Type::kInt), is_string = PatternView::of(Type::kString);
  auto dropped = drop(transaction, {asks(FieldView::bytes(session)), asks(number_view(serial)), is_string, is_int, is_int, is_bytes},
                      [](TupleView) { return true; });
  return dropped ? Result<void>() : dropped.error();
}

Result<void> Ledger::put_taken(std::string_view session, uint64_t number, std::string_view space, const store::Lifetime& lifetime,
                               const Tuple& tuple) {
  return put(*transaction_, {FieldView::bytes(session), number_view(number), FieldView::string(space), number_view(lifetime.age),
                             number_view(lifetime.due), FieldView::of(tuple)});
}

Result<std::optional<Kept>> Ledger::drop_taken(std::string_view session, uint64_t number) {
  std::optional<Kept> kept;
  PatternView is_int = PatternView::of(Type::kInt), is_string = PatternView::of(Type::kString);
  auto dropped = drop(*transaction_, {asks(FieldView::bytes(session)), asks(number_view(number)), is_string, is_int, is_int, PatternView::of(Type::kTuple)},
                      [&](TupleView fields) { return kept = kept_of(fields), true; });
  if (!dropped) return dropped.error();
  return kept;
}

Result<void> Ledger::put_open(std::string_view session, uint64_t number) {
  return put(*transaction_, {FieldView::bytes(session), number_view(number), FieldView::string(kOpen)});
}

Result<void> Ledger::drop_open(std::string_view session, uint64_t number) {
  auto dropped = drop(*transaction_, {asks(FieldView::bytes(session)), asks(number_view(number)), asks(FieldView::string(kOpen))},
                      [](TupleView) { return true; });
  return dropped ? Result<void>() : dropped.error();
}

Result<void> Ledger::note_over(std::string_view session, std::string_view key) {
  FieldView fields[] = {FieldView::bytes(session), FieldView::string(kOver), FieldView::string(key)};
  return store_.out_for(kOverFor, fields);
}

Result<void> Ledger::forget_over(std::string_view session) {
  PatternView wanted[] = {asks(FieldView::bytes(session)), asks(FieldView::string(kOver)), PatternView::of(Type::kString)};
  TemplateView view(wanted);
  auto got = store_.in({&view, 1}, nullptr, [](TupleView) { return true; });
  return got ? Result<void>() : got.error();
}

Result<std::map<std::string, Left>> Ledger::read() {
  auto all = store_.all({});
  if (!all) return all.error();
  std::map<std::string, Left> left;
  for (const Tuple& tuple : *all) {
    auto fields = views_of(tuple);
    read_into(left[std::string(fields[0].text)], fields);
  }
  for (auto& [session, one] : left)
    std::sort(one.records.begin(), one.records.end(), [](const auto& a, const auto& b) { return a.serial < b.serial; });
  return left;
}

}  // namespace godwit::clients
