// How two virtual sockets find each other: bind, listen, connect, accept, and the addresses they show.
// Results are negative errno values or what the call returns.
#pragma once
#include <netinet/in.h>

#include "wrapper/descriptors.hh"

namespace godwit::wrapper {

/// Whether socket(2) with these arguments makes a virtual socket.
bool is_virtual_kind(int domain, int type, int protocol);

/// The address family that the program gave, or the listener's for an accepted socket.
uint32_t family_of(Handle& handle);

long make_socket(int domain, int type);
long bind_socket(Handle& handle, const sockaddr* address, socklen_t length);
long listen_socket(Handle& handle, int backlog);
long connect_socket(Handle& handle, const sockaddr* address, socklen_t length);
long accept_socket(Handle& handle, sockaddr* address, socklen_t* length, int flags);
long own_address(Handle& handle, sockaddr* address, socklen_t* length);
long peer_address(Handle& handle, sockaddr* address, socklen_t* length);

}  // namespace godwit::wrapper
