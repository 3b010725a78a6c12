//! smoke
mod lab;
use lab::packet::*; use lab::twin::*;
#[test] fn smoke() {
 let mut c = Vec::new();
 for i in 0..2 { c.push(format!("ip addr add 10.0.{i}.1/24 dev d{i}")); c.push(format!("ip neigh add 10.0.{i}.2 lladdr {} dev d{i} nud permanent", text(wire_mac(i)))); }
 let t0=std::time::Instant::now();
 let mut t = Twin::start(Setup::new("smoke",2,c));
 println!("start {:?}", t0.elapsed());
 let t0=std::time::Instant::now();
 for k in 0..100u16 { t.send(0, (0..200).map(|i| udp(ip("10.0.0.2"), ip("10.0.1.2"), (1000+k, i), 26).ttl(if i%10==0 {1} else {64}))); }
 println!("inject {:?}", t0.elapsed());
 let o = t.finish(Share::AtLeast(0.9));
 println!("{o:?} {:?}", t0.elapsed());
}
