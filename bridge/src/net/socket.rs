//! How our TCP sockets are set.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long sent bytes may stay unanswered before the kernel gives a connection up. Detection is the sessions' work
/// and much quicker; this only frees what nobody will use again.
const USER_TIMEOUT_MS: u32 = 10_000;

/// An idle connection is looked at after this long, and twice more.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEPALIVE_COUNT: u32 = 3;

/// Connections that wait for `accept`; a whole cluster may come at once after an election.
const BACKLOG: u32 = 1024;

/// Small messages go at once, and dead peers do not stay for ever.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(())
}

/// Listens; `[::]` also takes IPv4, and becomes `0.0.0.0` where the kernel has no IPv6.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let any = address.ip().is_unspecified();
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => match TcpSocket::new_v6() {
            Ok(socket) => {
                sockopt::set_ipv6_v6only(&socket, !any)?;
                socket
            }
            Err(error) if any && no_ipv6(&error) => {
                return listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())));
            }
            Err(error) => return Err(error),
        },
    };
    // A restarted daemon takes its port back at once.
    socket.set_reuseaddr(true)?;
    match socket.bind(address) {
        // With IPv6 disabled by sysctl the socket can be made and not bound.
        Err(error) if any && address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable => {
            return listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())));
        }
        bound => bound?,
    }
    socket.listen(BACKLOG)
}

fn no_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}
