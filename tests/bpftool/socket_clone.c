// SPDX-License-Identifier: Apache-2.0
// socket_clone: what accepted sockets have of their listeners' storage.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "storage_types.h"

static void show(const char* what, int map, int fd) {
  long value = 0;
  if (bpf_map_lookup_elem(map, &fd, &value) != 0) {
    printf("%s: %s\n", what, strerror(errno));
  } else {
    printf("%s: %ld\n", what, value);
  }
}

static void set(int map, int fd, long value) {
  if (bpf_map_update_elem(map, &fd, &value, BPF_ANY) != 0) perror("update");
}

int main(void) {
  int btf = load_storage_types();
  int cloned = create_storage(BPF_MAP_TYPE_SK_STORAGE, "cloned", BPF_F_CLONE, btf);
  int second = create_storage(BPF_MAP_TYPE_SK_STORAGE, "second", BPF_F_CLONE, btf);
  int plain = create_storage(BPF_MAP_TYPE_SK_STORAGE, "plain", 0, btf);
  int unused = create_storage(BPF_MAP_TYPE_SK_STORAGE, "unused", BPF_F_CLONE, btf);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, peer;
  socklen_t length = sizeof(address);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr*)&address, sizeof(address)) != 0 || listen(listener, 8) != 0 ||
      getsockname(listener, (struct sockaddr*)&address, &length) != 0)
    perror("listen");
  set(cloned, listener, 7);
  set(second, listener, 8);
  set(plain, listener, 9);
  const char* calls[] = {"accept", "accept4", "syscall"};
  for (int i = 0; i < 3; ++i) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr*)&address, sizeof(address)) != 0) perror("connect");
    memset(&peer, 0, sizeof(peer));
    length = sizeof(peer);
    int accepted = i == 0   ? accept(listener, (struct sockaddr*)&peer, &length)
                   : i == 1 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC)
                            : (int)syscall(SYS_accept4, listener, NULL, NULL, 0);
    printf("%s %s\n", calls[i], accepted >= 0 ? "works" : strerror(errno));
    if (i == 0) printf("peer %s %d\n", inet_ntoa(peer.sin_addr), (int)length);
    show("cloned", cloned, accepted);
    show("second", second, accepted);
    show("plain", plain, accepted);
    show("unused", unused, accepted);
    show("client", cloned, client);
    set(cloned, listener, 70 + i);
    show("after the listener's change", cloned, accepted);
    set(second, accepted, 1);
    show("the listener after the accepted socket's", second, listener);
    set(unused, accepted, 2);
    show("the listener after an own one", unused, listener);
    close(accepted);
    close(client);
  }
  struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = {0, 's', 'k', 'e', 'p'}};
  int sockets = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
  snprintf(local.sun_path + 5, 40, "-clone-%d", getpid());
  if (bind(sockets, (struct sockaddr*)&local, sizeof(local)) != 0 || listen(sockets, 8) != 0) perror("listen");
  set(cloned, sockets, 3);
  if (connect(client, (struct sockaddr*)&local, sizeof(local)) != 0) perror("connect");
  show("accepted from a local listener", cloned, accept(sockets, NULL, NULL));
  errno = 0;
  printf("accept of no socket: %d", accept(-1, NULL, NULL));
  printf(" %s\n", strerror(errno));
  return 0;
}
