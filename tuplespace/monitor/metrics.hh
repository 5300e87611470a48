// What Prometheus may ask of a node: its spaces, its pods, its segment, its community. Off unless the home's settings name an address.
#pragma once

namespace godwit {

class Node;

void register_metrics(Node& node);

}  // namespace godwit
