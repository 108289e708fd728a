"""The servers that are compared: how each is started with one worker before an origin, and which version it is.

To add one, write a subclass of Peer and name it in workloads.py.
"""

import dataclasses
import pathlib
import re
import resource
import shutil
import subprocess
from typing import Optional

from processes import PEER_CORE, ROOT, Failed, Started, free_port, output_of, start_and_read_ports, start_and_wait


@dataclasses.dataclass
class Bench:
    """What a peer needs to start: where the programs are, a directory of its own, the workload's origin."""

    tidegate: pathlib.Path
    bare: pathlib.Path
    directory: pathlib.Path
    # Whether the programs were built from this tree just now.
    built: bool = True
    size: int = 0
    origin: int = 0

    def certificate(self) -> pathlib.Path:
        """A certificate and its key in one file, made once for everybody: P-256, so that all sign alike."""
        both = self.directory / "both.pem"
        if not both.exists():
            certificate, key = self.directory / "cert.pem", self.directory / "key.pem"
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            command += ["-keyout", key, "-out", certificate, "-days", "30", "-subj", "/CN=localhost"]
            command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if said.returncode != 0:
                raise Failed(f"no certificate: {said.stdout.decode()}")
            both.write_text(certificate.read_text() + key.read_text())
        return both


class Peer:
    """A server that is compared. One process serves all contenders of a workload that name the same peer."""

    name = ""
    # The program it needs, and the package that has it; none: built from this tree.
    program: Optional[str] = None
    package = ""

    def missing(self) -> Optional[str]:
        """Why it cannot take part, with how to get it."""
        if self.program and not shutil.which(self.program) and not shutil.which(f"/usr/sbin/{self.program}"):
            return f"{self.program} is not installed (apt-get install {self.package})"
        return None

    def path(self) -> str:
        return shutil.which(self.program) or f"/usr/sbin/{self.program}"

    def version(self, bench: Bench) -> str:
        raise NotImplementedError

    def start(self, bench: Bench) -> Started:
        """Starts it on core PEER_CORE with one worker, before bench.origin, its files in bench.directory."""
        raise NotImplementedError


class BareServer(Peer):
    """hyper and a ready response: what no cache on hyper can beat."""

    name = "bare hyper"

    def version(self, bench):
        lock = (ROOT / "Cargo.lock").read_text()
        return "hyper " + re.search(r'name = "hyper"\nversion = "([^"]+)"', lock)[1]

    def start(self, bench):
        bench.certificate()
        command = [bench.bare, "serve", "--size", bench.size]
        command += ["--certificate", bench.directory / "cert.pem", "--key", bench.directory / "key.pem"]
        patterns = {"http": r"ready \S+:(\d+)", "https": r"tls \S+:(\d+)", "h2c": r"h2c \S+:(\d+)"}
        return start_and_read_ports(PEER_CORE, command, patterns, bench.directory / "bare.log")


class BareProxy(BareServer):
    """hyper on both sides and nothing in between: what no proxy on hyper can beat."""

    name = "bare hyper, passing"

    def start(self, bench):
        command = [bench.bare, "proxy", "--upstream", f"127.0.0.1:{bench.origin}"]
        patterns = {"http": r"ready \S+:(\d+)"}
        return start_and_read_ports(PEER_CORE, command, patterns, bench.directory / "bare-proxy.log")


class Tidegate(Peer):
    """One thread, one route per level, contracts and metrics on."""

    name = "tidegate"

    CONFIG = """
[server]
threads = 1

[listeners.main]
address = "127.0.0.1:0"
debug_from = []                 # as clients from elsewhere are answered

[listeners.tls]
address = "127.0.0.1:0"
tls = {{ certificate = "cert.pem", key = "key.pem" }}
debug_from = []

[admin]
address = "127.0.0.1:0"

[cache]
max_memory = "1GiB"

[upstreams.origin]
nodes = [{{ url = "http://127.0.0.1:{origin}" }}]

[upstreams.owned]               # nobody else may write there
nodes = [{{ url = "http://localhost:{origin}" }}]

[[routes]]
name = "exclusive"
match = {{ path = "/exclusive/{{*rest}}" }}
upstream = "owned"
consistency = "strong"
writers = "exclusive"
settle_after = "1ms"

[[routes]]
name = "eventual"
match = {{ path = "/eventual/{{*rest}}" }}
upstream = "origin"
consistency = "eventual"
ttl = "1h"
max_staleness = "1h"

[[routes]]
name = "strong"
match = {{ path = "/strong/{{*rest}}" }}
upstream = "origin"
consistency = "strong"

[[routes]]
name = "off"
match = {{ path = "/off/{{*rest}}" }}
upstream = "origin"
consistency = "off"
"""

    def version(self, bench):
        version = output_of(bench.tidegate, "--version")
        if not bench.built:
            return f"{version}, given"
        return f"{version} at " + output_of("git", "-C", ROOT, "describe", "--always", "--dirty")

    def start(self, bench):
        bench.certificate()
        config = bench.directory / "tidegate.toml"
        config.write_text(self.CONFIG.format(origin=bench.origin))
        command = [bench.tidegate, "run", "--config", config]
        main, tls = r"ready .*main=\S+?:(\d+)\b", r"ready .*tls=\S+?:(\d+)\b"
        patterns = {"http": main, "https": tls, "h2c": main}
        return start_and_read_ports(PEER_CORE, command, patterns, bench.directory / "tidegate.log")


class Nginx(Peer):
    """One worker, its cache in files that the kernel keeps in memory."""

    name = "nginx"
    program, package = "nginx", "nginx-light"

    CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log {directory}/nginx-errors.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/temp;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  proxy_cache_path {directory}/cache levels=1:2 keys_zone=c:64m max_size=2g inactive=1h use_temp_path=off;
  open_file_cache max={cached_files} inactive=1h;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{http} reuseport;
    listen 127.0.0.1:{h2c} http2;
    listen 127.0.0.1:{https} ssl;
    ssl_certificate {directory}/cert.pem;
    ssl_certificate_key {directory}/key.pem;
    ssl_protocols TLSv1.3;
    http2_max_requests 1000000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location /off/ {{ proxy_pass http://origin; }}
    location / {{
      proxy_cache c;
      add_header X-Cache $upstream_cache_status;
      proxy_pass http://origin;
    }}
  }}
}}
"""

    def version(self, bench):
        return output_of(self.path(), "-v").rpartition("/")[2]

    def start(self, bench):
        bench.certificate()
        ports = {"http": free_port(), "https": free_port(), "h2c": free_port()}
        config = bench.directory / "nginx.conf"
        # As many open files as it may have; one that is not kept open is opened for every hit, which is dearer.
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1_000_000)
        limits = {"files": files, "cached_files": files * 3 // 4}
        text = self.CONFIG.format(directory=bench.directory, origin=bench.origin, **limits, **ports)
        if os_is_root():
            text = "user root;\n" + text
        config.write_text(text)
        command = [self.path(), "-c", config, "-p", bench.directory]
        return start_and_wait(PEER_CORE, command, ports, bench.directory / "nginx.log")


def os_is_root() -> bool:
    return output_of("id", "-u") == "0"


class HAProxy(Peer):
    """One thread, its cache in shared memory."""

    name = "HAProxy"
    program, package = "haproxy", "haproxy"

    CONFIG = """
global
  nbthread 1
  maxconn 4096
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
cache c
  total-max-size 1024
  max-object-size 1000000
  max-age 3600
frontend f
  bind 127.0.0.1:{http}
  bind 127.0.0.1:{h2c} proto h2
  bind 127.0.0.1:{https} ssl crt {directory}/both.pem alpn http/1.1
  use_backend passing if {{ path_beg /off/ }}
  default_backend cached
backend cached
  http-request cache-use c
  http-response cache-store c
  http-response set-header X-Cache HIT if !{{ srv_id -m found }}
  server origin 127.0.0.1:{origin}
backend passing
  http-reuse always
  server origin 127.0.0.1:{origin}
"""

    def version(self, bench):
        return re.search(r"version (\S+)", output_of(self.path(), "-v"))[1]

    def start(self, bench):
        bench.certificate()
        ports = {"http": free_port(), "https": free_port(), "h2c": free_port()}
        config = bench.directory / "haproxy.cfg"
        config.write_text(self.CONFIG.format(directory=bench.directory, origin=bench.origin, **ports))
        return start_and_wait(PEER_CORE, [self.path(), "-f", config, "-db"], ports, bench.directory / "haproxy.log")


class Varnish(Peer):
    """Its threads on one core, its cache in memory."""

    name = "Varnish"
    program, package = "varnishd", "varnish"

    CONFIG = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{ if (req.url ~ "^/off/") {{ return (pass); }} }}
"""

    def version(self, bench):
        return re.search(r"varnish-(\S+)", output_of(self.path(), "-V"))[1]

    def start(self, bench):
        port = free_port()
        config = bench.directory / "varnish.vcl"
        config.write_text(self.CONFIG.format(origin=bench.origin))
        work = bench.directory / "varnish"
        command = [self.path(), "-F", "-n", work, "-a", f"127.0.0.1:{port}", "-T", "none", "-f", config]
        command += ["-s", "malloc,1g", "-p", "thread_pools=1", "-p", "feature=+http2", "-j", "none"]
        ports = {"http": port, "h2c": port}
        return start_and_wait(PEER_CORE, command, ports, bench.directory / "varnish.log")
