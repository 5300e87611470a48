// Socket options of virtual sockets: what programs set is remembered in the end and answered as Linux
// would. Those that steer packets on a wire are accepted and mean nothing here.
#pragma once
#include "wrapper/descriptors.hh"

namespace godwit::wrapper {

long get_option(Handle& handle, int level, int name, void* value, socklen_t* length);
long set_option(Handle& handle, int level, int name, const void* value, socklen_t length);

/// IPV6_V6ONLY.
bool v6_only(const shared::End& end);

/// Gives a kernel socket what was set on the virtual one that it replaces.
void apply_options(shared::End& end, int fd);

/// FIONREAD, SIOCOUTQ, FIONBIO, SIOCATMARK. -ENOSYS: leave it to the kernel.
long control_socket(Handle& handle, unsigned long request, void* argument);

}  // namespace godwit::wrapper
