// Socket.IO at both ends, for the live tests.
// node socketio.mjs serve PORT: echoes, calls a room, and closes the transport when told to.
// node socketio.mjs visit ORIGIN TRANSPORTS: goes through all that and says each step; "again" after a lost connection.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { io } from 'socket.io-client';

const [role, where, transports] = process.argv.slice(2);
const say = (...words) => console.log(words.join(' '));
const sha = (octets) => createHash('sha256').update(octets).digest('hex');

function serve() {
  const http = createServer();
  const server = new Server(http, { maxHttpBufferSize: 1e7, pingInterval: 2000, pingTimeout: 5000 });
  server.on('connection', (socket) => {
    socket.join('room');
    socket.on('echo', (value, answer) => answer(value));
    socket.on('call', (text) => server.to('room').emit('called', text));
    socket.on('drop', () => socket.conn.close());
    socket.on('count', (from, to) => { for (let n = from; n < to; n++) socket.emit('number', n); });
  });
  http.listen(Number(where), '127.0.0.1');
}

async function visit() {
  const socket = io(where, {
    transports: transports.split(','), reconnectionDelay: 50, reconnectionDelayMax: 200, timeout: 10000, forceNew: true,
  });
  let visits = 0;
  const numbers = [];
  socket.on('number', (n) => numbers.push(n));
  socket.on('disconnect', (reason) => say('lost', reason));
  socket.io.on('open', () => say('opened by', socket.io.engine.transport.name));
  socket.on('connect', async () => {
    const { engine } = socket.io;
    say(visits++ ? 'again' : 'connected');
    if (visits > 1) {
      say('echo after loss', await socket.timeout(5000).emitWithAck('echo', 'still there'));
      return;
    }
    if (engine.transport.name === 'polling' && transports.includes('websocket')) {
      await new Promise((done) => engine.once('upgrade', done));
    }
    say('stays with', engine.transport.name);
    say('text', await socket.timeout(5000).emitWithAck('echo', 'grüß \u0001 \u{1F600}'));
    const octets = Buffer.alloc(700_000, (n) => n % 251).map((_, n) => (n * 31) % 251);
    const back = await socket.timeout(10000).emitWithAck('echo', octets);
    say('binary', sha(Buffer.from(back)) === sha(octets));
    const called = new Promise((done) => socket.once('called', done));
    socket.emit('call', 'everybody');
    say('called', await called);
    socket.emit('count', 0, 500);
    await socket.timeout(5000).emitWithAck('echo', 'after the numbers');
    say('numbers', numbers.length === 500 && numbers.every((n, at) => n === at));
    socket.emit('drop');
  });
}

({ serve, visit })[role]();
