/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SOCKOPT_H
#define SOCKOPT_H

enum { SOL_IP = 0, SOL_IPV6 = 41 };
enum { IP_OPTIONS = 4 };
enum { IPV6_2292PKTOPTIONS = 6, IPV6_HOPOPTS = 54, IPV6_RTHDRDSTOPTS = 55, IPV6_RTHDR = 57, IPV6_DSTOPTS = 59 };

/* socket_option refuses what makes a packet's address another than the one that
 * connect(2) was asked for: source routes and extension headers. */
SEC("cgroup/setsockopt")
int socket_option(struct bpf_sockopt *ctx)
{
	int v6 = ctx->level == SOL_IPV6 &&
		 (ctx->optname == IPV6_2292PKTOPTIONS || ctx->optname == IPV6_HOPOPTS ||
		  ctx->optname == IPV6_RTHDRDSTOPTS || ctx->optname == IPV6_RTHDR || ctx->optname == IPV6_DSTOPTS);
	int v4 = ctx->level == SOL_IP && ctx->optname == IP_OPTIONS;

	if (v4 || v6) {
		struct addr to = {.family = v6 ? AF_INET6 : AF_INET, .port = ctx->optname};
		hook_refused(sandbox_walk(), OP_NET_SOCKET, HOOK_SETSOCKOPT, &to, 0);
		return 0;
	}
	if (ctx->optlen > 4096)
		ctx->optlen = 0; /* leave it as it is: only a page of it was copied */
	return 1;
}

#endif
