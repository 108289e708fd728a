// The suite's own origin server, on a loopback port of the system's choice: as published it binds every interface.
//   node origin.mjs PACKAGE PIDFILE
import net from 'node:net'
import path from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

const [home, pidfile] = process.argv.slice(2)
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function () { return listen.call(this, 0, '127.0.0.1') }
Object.assign(process.env, { npm_config_protocol: 'http', npm_config_port: '80', npm_config_pidfile: pidfile })
await import(pathToFileURL(path.join(home, 'server', 'server.mjs')))
