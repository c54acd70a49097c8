# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# node-lib.sh - where the files of a node are, and how to talk to its Open
# vSwitch.  Read by node.sh, the mike-* commands and the demo.  Defines
# functions and a few variables; changes no shell option.
#
# Its variables are for the scripts that read it:
# shellcheck disable=SC2034

# Debian installs the DPDK build of ovs-vswitchd beside the plain one.
OVS_VSWITCHD_DEBIAN=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk

node_say()
{
	printf 'vrdma%s: %s\n' "${NODENAME:+ $NODENAME}" "$*" >&2
}

node_die()
{
	node_say "$*"
	exit 1
}

# node_names NODENAME - set the variables of the report's table 2 (and a few
# more), all derived from the node's name and the run directory.
node_names()
{
	NODENAME=$1
	VRDMA_RUN=${VRDMA_RUN:-/run/vrdma}
	OVS_RUNDIR=$VRDMA_RUN/$NODENAME
	OVS_DBDIR=$OVS_RUNDIR
	OVS_LOGDIR=$OVS_RUNDIR
	OVS_SYSCONFDIR=$OVS_RUNDIR
	OVS_DATABASE=$OVS_RUNDIR/conf.db
	OVS_SERVER_LOG=$OVS_RUNDIR/ovsdb-server.log
	OVS_DAEMON_LOG=$OVS_RUNDIR/ovs-vswitchd.log
	OVS_SERVER_PID=$OVS_RUNDIR/ovsdb-server.pid
	OVS_DAEMON_PID=$OVS_RUNDIR/ovs-vswitchd.pid
	DB_SOCKET=$OVS_RUNDIR/db.sock
	DPDKVHOST_NAME=dpdkvhost-$NODENAME
	DPDKVHOST=$OVS_RUNDIR/$DPDKVHOST_NAME.sock
	VRDMA_TELEMETRY=$OVS_RUNDIR/dpdk/$NODENAME/dpdk_telemetry.v2
}

NODE_EXPORTS="NODENAME VRDMA_RUN OVS_RUNDIR OVS_DBDIR OVS_LOGDIR OVS_SYSCONFDIR
OVS_DATABASE OVS_SERVER_LOG OVS_DAEMON_LOG OVS_SERVER_PID OVS_DAEMON_PID
DB_SOCKET DPDKVHOST_NAME DPDKVHOST VRDMA_TELEMETRY"

# shellcheck disable=SC2015 # return 1 unless both hold
# node_pid PIDFILE - print the daemon's pid if it is alive.  A pid file
# outlives a killed daemon and its number may be someone else's by now, so the
# process must also name the file on its command line.
node_pid()
{
	local pid

	pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
	tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -e "--pidfile=$1" || return 1
	printf '%s\n' "$pid"
}

# node_need - for commands that work on a running node: find it by NODENAME.
node_need()
{
	[ -n "${NODENAME:-}" ] ||
		node_die "NODENAME is not set: source start-vrdma.sh, or run NODENAME=<node> ${0##*/} ..."
	node_names "$NODENAME"
	[ -S "$DB_SOCKET" ] || node_die "no such node is running (looked for $DB_SOCKET)"
}

# ovs-vsctl waits for ovs-vswitchd for ever when that is dead: never without a
# time limit.
node_vsctl()
{
	ovs-vsctl --timeout="${VRDMA_TIMEOUT:-60}" --db="unix:$DB_SOCKET" "$@"
}

node_appctl()
{
	local pid

	pid=$(node_pid "$OVS_DAEMON_PID") || node_die "ovs-vswitchd is not running"
	ovs-appctl --timeout="${VRDMA_TIMEOUT:-60}" -t "$OVS_RUNDIR/ovs-vswitchd.$pid.ctl" "$@"
}
