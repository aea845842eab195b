#!/bin/sh
# Lets a host through while there is a ticket for it: a file named after the host
# in the directory given as the first argument, whose first line is the ticket's
# number. In a policy:
#
#   network:
#     authorizer: {exec: [/etc/sallyport/ticket.sh, /srv/tickets]}
#
# The request is one line of JSON on standard input, all ASCII; a host in it is
# letters, digits, dots, hyphens and colons, and nothing else.
set -eu
read -r request
host=$(printf '%s' "$request" | sed -n 's/.*"host":"\([a-z0-9._:-]*\)".*/\1/p')
case $host in
'' | .* | */*) echo '{"verdict":"deny","reason":"no host"}'; exit ;;
esac
if [ -f "$1/$host" ] && read -r ticket <"$1/$host"; then
	ticket=$(printf '%s' "$ticket" | tr -cd 'A-Za-z0-9-')
	printf '{"verdict":"allow","decision_id":"%s","ttl_s":60}\n' "$ticket"
else
	echo '{"verdict":"deny","reason":"there is no ticket for this host"}'
fi
