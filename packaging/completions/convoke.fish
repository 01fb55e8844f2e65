# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_convoke_global_optspecs
    string join \n h/help V/version
end

function __fish_convoke_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_convoke_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_convoke_using_subcommand
    set -l cmd (__fish_convoke_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c convoke -n "__fish_convoke_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_needs_command" -s V -l version -d 'Print version'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "init" -d 'Make a new cluster with this machine as its first node'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "token" -d 'Print a token that lets another machine join'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "join" -d 'Make this machine a node of the token\'s cluster'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "status" -d 'Show the cluster, or one node or unit of it'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "list-units" -d 'List the cluster units'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "list-nodes" -d 'List the nodes'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "start" -d 'Start units, wherever the cluster places them'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "stop" -d 'Stop units in the whole cluster; they stay stopped until they are started again'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "move" -d 'Move a unit to another node'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "drain" -d 'Move everything away from a node and place nothing on it'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "undrain" -d 'Let a drained node take units again'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "maintain" -d 'Keep the cluster\'s hands off nodes, units, or all of it'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "unmaintain" -d 'Let the cluster act again on what was in maintenance'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "why" -d 'Say why a unit is where it is, and what would release it'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "plan" -d 'Say what would happen, without doing anything'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "fence" -d 'Show fencing and fence agents, have a drill, or vouch that a node is off'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "events" -d 'Show what happened'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "history" -d 'Show what happened'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "leave" -d 'Take a node out of the cluster for good'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "forget" -d 'Forget a unit that no node offers any more'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "adopt" -d 'Choose whose definition of a unit holds, where the nodes differ'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "assemble" -d 'Say whose data a clustered service does without, begins with, or throws away'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "reset-failed" -d 'Forget the failures of a unit, so that avoided nodes may take it again'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "config" -d 'Show and change the settings of the cluster'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "verify" -d 'Check the cluster units in the files of this node'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "check" -d 'Check the definitions of all cluster units against each other and against the nodes'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "enable-recipe" -d 'Copy a ready-made definition of a clustered service to this node'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "gate" -d 'Ask whether a unit may start here; used by convoke-gate@.service'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "version" -d 'Print the version'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "exit-codes" -d 'List the exit codes'
complete -c convoke -n "__fish_convoke_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand init" -l name -d 'What to call the cluster' -r
complete -c convoke -n "__fish_convoke_using_subcommand init" -l node -d 'What to call this node; the machine\'s own name if not given' -r
complete -c convoke -n "__fish_convoke_using_subcommand init" -l address -d 'Where the other nodes reach this one, may be given more than once; found out if not given' -r
complete -c convoke -n "__fish_convoke_using_subcommand init" -l port -d 'The port to listen on' -r
complete -c convoke -n "__fish_convoke_using_subcommand init" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand token" -l valid -d 'How long it lets machines in: 30min, 1h, 1d; at most 7d' -r
complete -c convoke -n "__fish_convoke_using_subcommand token" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand join" -l name -l node -d 'What to call this node; the machine\'s own name if not given' -r
complete -c convoke -n "__fish_convoke_using_subcommand join" -l role -d 'What the node does: votes and runs units, runs units only, or votes only' -r -f -a "voter\t''
member\t''
witness\t''"
complete -c convoke -n "__fish_convoke_using_subcommand join" -l address -d 'Where the other nodes reach this one, may be given more than once; found out if not given' -r
complete -c convoke -n "__fish_convoke_using_subcommand join" -l port -d 'The port to listen on' -r
complete -c convoke -n "__fish_convoke_using_subcommand join" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand status" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand status" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand list-units" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand list-units" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand list-nodes" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand list-nodes" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand start" -l on -d 'Start on this node, and forget what kept the unit from it' -r
complete -c convoke -n "__fish_convoke_using_subcommand start" -l timeout -d 'How long to wait until it has happened' -r
complete -c convoke -n "__fish_convoke_using_subcommand start" -l no-wait -d 'Return as soon as the cluster has recorded it'
complete -c convoke -n "__fish_convoke_using_subcommand start" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand stop" -l timeout -d 'How long to wait until it has happened' -r
complete -c convoke -n "__fish_convoke_using_subcommand stop" -l no-wait -d 'Return as soon as the cluster has recorded it'
complete -c convoke -n "__fish_convoke_using_subcommand stop" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand move" -l from -d 'Which copy to move, for a unit with several' -r
complete -c convoke -n "__fish_convoke_using_subcommand move" -l timeout -d 'How long to wait until it has happened' -r
complete -c convoke -n "__fish_convoke_using_subcommand move" -l no-wait -d 'Return as soon as the cluster has recorded it'
complete -c convoke -n "__fish_convoke_using_subcommand move" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand drain" -l timeout -d 'How long to wait until it has happened' -r
complete -c convoke -n "__fish_convoke_using_subcommand drain" -l no-wait -d 'Return as soon as the cluster has recorded it'
complete -c convoke -n "__fish_convoke_using_subcommand drain" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand undrain" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand maintain" -l reason -d 'What for; everybody who looks is shown it' -r
complete -c convoke -n "__fish_convoke_using_subcommand maintain" -l cluster -d 'The whole cluster'
complete -c convoke -n "__fish_convoke_using_subcommand maintain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand unmaintain" -l cluster -d 'The whole cluster'
complete -c convoke -n "__fish_convoke_using_subcommand unmaintain" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand why" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand why" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "now" -d 'Say what the cluster is about to do by itself; the same as `convoke plan`'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "lose" -d 'Say what would happen if nodes fell silent at one time'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "drain" -d 'Say what `convoke drain` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "undrain" -d 'Say what `convoke undrain` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "maintain" -d 'Say what would happen in maintenance: what is asked for, or lost, is not followed'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "unmaintain" -d 'Say what `convoke unmaintain` would do: everything that was put off'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "start" -d 'Say what `convoke start` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "stop" -d 'Say what `convoke stop` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "move" -d 'Say what `convoke move` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and not __fish_seen_subcommand_from now lose drain undrain maintain unmaintain start stop move help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from now" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from now" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from lose" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from lose" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from drain" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from undrain" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from undrain" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from maintain" -l cluster -d 'The whole cluster'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from maintain" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from maintain" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from unmaintain" -l cluster -d 'The whole cluster'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from unmaintain" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from unmaintain" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from start" -l on -d 'Start on this node' -r
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from start" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from stop" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from move" -l from -d 'Which copy to move, for a unit with several' -r
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from move" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from move" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "now" -d 'Say what the cluster is about to do by itself; the same as `convoke plan`'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "lose" -d 'Say what would happen if nodes fell silent at one time'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Say what `convoke drain` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "undrain" -d 'Say what `convoke undrain` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "maintain" -d 'Say what would happen in maintenance: what is asked for, or lost, is not followed'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "unmaintain" -d 'Say what `convoke unmaintain` would do: everything that was put off'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "start" -d 'Say what `convoke start` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "stop" -d 'Say what `convoke stop` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "move" -d 'Say what `convoke move` would do'
complete -c convoke -n "__fish_convoke_using_subcommand plan; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "list" -d 'List fence devices and open fences'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "confirm" -d 'Give your word that a lost node is off, so that its units start elsewhere'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "test" -d 'Prove that the cluster can switch a node off and on again, by doing it'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "cancel" -d 'Take back a drill that has not begun'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "why" -d 'Say whether and why a node is being fenced, what would end that, and whether it could be fenced now'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "history" -d 'Show the fences and drills of the past, attempt by attempt'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "agents" -d 'List the fence agents that are installed on this machine'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "describe" -d 'Show the options of a fence agent, whether it can prove a node off, and what is known of its traps'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and not __fish_seen_subcommand_from list confirm test cancel why history agents describe help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from confirm" -l yes-i-have-verified-it-is-off -d 'Do not ask; for scripts that have switched the power off themselves'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from confirm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from test" -l level -d 'Through which level of its devices; the first if none is given' -r
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from test" -l timeout -d 'How long to wait until the node is back: it has to boot' -r
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from test" -l yes -d 'Do not ask'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from test" -l no-wait -d 'Return as soon as the cluster has recorded it'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from why" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from why" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from history" -l device -d 'Through this device only' -r
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from history" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from agents" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from agents" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from describe" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from describe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "list" -d 'List fence devices and open fences'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "confirm" -d 'Give your word that a lost node is off, so that its units start elsewhere'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "test" -d 'Prove that the cluster can switch a node off and on again, by doing it'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "cancel" -d 'Take back a drill that has not begun'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "why" -d 'Say whether and why a node is being fenced, what would end that, and whether it could be fenced now'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "history" -d 'Show the fences and drills of the past, attempt by attempt'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "agents" -d 'List the fence agents that are installed on this machine'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "describe" -d 'Show the options of a fence agent, whether it can prove a node off, and what is known of its traps'
complete -c convoke -n "__fish_convoke_using_subcommand fence; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand events" -s n -l lines -d 'Show the last lines only' -r
complete -c convoke -n "__fish_convoke_using_subcommand events" -s u -l unit -d 'Only of this unit' -r
complete -c convoke -n "__fish_convoke_using_subcommand events" -l node -d 'Only of this node' -r
complete -c convoke -n "__fish_convoke_using_subcommand events" -s f -l follow -d 'Go on and show what happens'
complete -c convoke -n "__fish_convoke_using_subcommand events" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand events" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand history" -s n -l lines -d 'Show the last lines only' -r
complete -c convoke -n "__fish_convoke_using_subcommand history" -s u -l unit -d 'Only of this unit' -r
complete -c convoke -n "__fish_convoke_using_subcommand history" -l node -d 'Only of this node' -r
complete -c convoke -n "__fish_convoke_using_subcommand history" -s f -l follow -d 'Go on and show what happens'
complete -c convoke -n "__fish_convoke_using_subcommand history" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand history" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand leave" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand forget" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand adopt" -l from -d 'Whose files are right' -r
complete -c convoke -n "__fish_convoke_using_subcommand adopt" -s y -l yes -d 'Do not ask; for scripts that know what they change'
complete -c convoke -n "__fish_convoke_using_subcommand adopt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand assemble" -l without -d 'Do without this node\'s data: what only it has is lost' -r
complete -c convoke -n "__fish_convoke_using_subcommand assemble" -l from -d 'Begin with this node\'s data, whatever the others have' -r
complete -c convoke -n "__fish_convoke_using_subcommand assemble" -l resync -d 'Throw this node\'s data away, and copy that of the others to it' -r
complete -c convoke -n "__fish_convoke_using_subcommand assemble" -l timeout -d 'How long to wait until it has happened' -r
complete -c convoke -n "__fish_convoke_using_subcommand assemble" -s y -l yes -d 'Do not ask; for scripts that know what is lost'
complete -c convoke -n "__fish_convoke_using_subcommand assemble" -l no-wait -d 'Return as soon as the cluster has recorded it'
complete -c convoke -n "__fish_convoke_using_subcommand assemble" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand reset-failed" -l node -d 'On this node only' -r
complete -c convoke -n "__fish_convoke_using_subcommand reset-failed" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand config; and not __fish_seen_subcommand_from show diff apply help" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand config; and not __fish_seen_subcommand_from show diff apply help" -f -a "show" -d 'Print the settings in force as TOML'
complete -c convoke -n "__fish_convoke_using_subcommand config; and not __fish_seen_subcommand_from show diff apply help" -f -a "diff" -d 'Show what applying a file would change'
complete -c convoke -n "__fish_convoke_using_subcommand config; and not __fish_seen_subcommand_from show diff apply help" -f -a "apply" -d 'Put the settings of a file in force, as a whole'
complete -c convoke -n "__fish_convoke_using_subcommand config; and not __fish_seen_subcommand_from show diff apply help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from show" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from apply" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print the settings in force as TOML'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Show what applying a file would change'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "apply" -d 'Put the settings of a file in force, as a whole'
complete -c convoke -n "__fish_convoke_using_subcommand config; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand verify" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand verify" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand check" -l json -d 'Print JSON'
complete -c convoke -n "__fish_convoke_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand enable-recipe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand gate" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand version" -s h -l help -d 'Print help'
complete -c convoke -n "__fish_convoke_using_subcommand exit-codes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "init" -d 'Make a new cluster with this machine as its first node'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "token" -d 'Print a token that lets another machine join'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "join" -d 'Make this machine a node of the token\'s cluster'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "status" -d 'Show the cluster, or one node or unit of it'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "list-units" -d 'List the cluster units'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "list-nodes" -d 'List the nodes'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "start" -d 'Start units, wherever the cluster places them'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "stop" -d 'Stop units in the whole cluster; they stay stopped until they are started again'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "move" -d 'Move a unit to another node'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "drain" -d 'Move everything away from a node and place nothing on it'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "undrain" -d 'Let a drained node take units again'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "maintain" -d 'Keep the cluster\'s hands off nodes, units, or all of it'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "unmaintain" -d 'Let the cluster act again on what was in maintenance'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "why" -d 'Say why a unit is where it is, and what would release it'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "plan" -d 'Say what would happen, without doing anything'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "fence" -d 'Show fencing and fence agents, have a drill, or vouch that a node is off'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "events" -d 'Show what happened'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "leave" -d 'Take a node out of the cluster for good'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "forget" -d 'Forget a unit that no node offers any more'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "adopt" -d 'Choose whose definition of a unit holds, where the nodes differ'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "assemble" -d 'Say whose data a clustered service does without, begins with, or throws away'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "reset-failed" -d 'Forget the failures of a unit, so that avoided nodes may take it again'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "config" -d 'Show and change the settings of the cluster'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "verify" -d 'Check the cluster units in the files of this node'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "check" -d 'Check the definitions of all cluster units against each other and against the nodes'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "enable-recipe" -d 'Copy a ready-made definition of a clustered service to this node'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "gate" -d 'Ask whether a unit may start here; used by convoke-gate@.service'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "version" -d 'Print the version'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "exit-codes" -d 'List the exit codes'
complete -c convoke -n "__fish_convoke_using_subcommand help; and not __fish_seen_subcommand_from init token join status list-units list-nodes start stop move drain undrain maintain unmaintain why plan fence events leave forget adopt assemble reset-failed config verify check enable-recipe gate version exit-codes help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "now" -d 'Say what the cluster is about to do by itself; the same as `convoke plan`'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "lose" -d 'Say what would happen if nodes fell silent at one time'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "drain" -d 'Say what `convoke drain` would do'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "undrain" -d 'Say what `convoke undrain` would do'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "maintain" -d 'Say what would happen in maintenance: what is asked for, or lost, is not followed'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "unmaintain" -d 'Say what `convoke unmaintain` would do: everything that was put off'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "start" -d 'Say what `convoke start` would do'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "stop" -d 'Say what `convoke stop` would do'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from plan" -f -a "move" -d 'Say what `convoke move` would do'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "list" -d 'List fence devices and open fences'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "confirm" -d 'Give your word that a lost node is off, so that its units start elsewhere'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "test" -d 'Prove that the cluster can switch a node off and on again, by doing it'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "cancel" -d 'Take back a drill that has not begun'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "why" -d 'Say whether and why a node is being fenced, what would end that, and whether it could be fenced now'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "history" -d 'Show the fences and drills of the past, attempt by attempt'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "agents" -d 'List the fence agents that are installed on this machine'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from fence" -f -a "describe" -d 'Show the options of a fence agent, whether it can prove a node off, and what is known of its traps'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "show" -d 'Print the settings in force as TOML'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "diff" -d 'Show what applying a file would change'
complete -c convoke -n "__fish_convoke_using_subcommand help; and __fish_seen_subcommand_from config" -f -a "apply" -d 'Put the settings of a file in force, as a whole'
