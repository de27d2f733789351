// A CDP client of a hostile kind, in node inside a sandbox: every byte it sends is its own choice.
// Put before the code of a case; leaves `Cdp`, `within` and `pause`.
globalThis.Cdp = (() => {
  const net = require('node:net'),
    crypto = require('node:crypto');
  class Cdp {
    static async connect(path, options = {}) {
      const url = new URL(process.env.CDP_URL);
      const self = new Cdp();
      self.socket = net.connect(Number(url.port), url.hostname);
      self.last = 0;
      self.waiting = new Map();
      self.events = [];
      self.listeners = [];
      self.bad = [];
      self.raw = Buffer.alloc(0);
      self.parts = [];
      self.closed = false;
      self.received = 0;
      const lines = options.request || [
        `GET ${path || '/devtools/browser/attack'} HTTP/1.1`,
        `Host: ${options.host || url.host}`,
        'Upgrade: websocket',
        'Connection: Upgrade',
        `Sec-WebSocket-Key: ${crypto.randomBytes(16).toString('base64')}`,
        'Sec-WebSocket-Version: 13',
        ...(options.headers || []),
      ];
      self.socket.on('error', () => {});
      self.gone = new Promise((resolve) =>
        self.socket.on('close', () => {
          self.closed = true;
          for (const [, done] of self.waiting) done({ error: { message: 'disconnected' } });
          resolve('disconnected');
        }),
      );
      const status = new Promise((resolve, _reject) => {
        let head = Buffer.alloc(0);
        const first = (piece) => {
          head = Buffer.concat([head, piece]);
          const end = head.indexOf('\r\n\r\n');
          if (end < 0) return;
          self.socket.off('data', first);
          self.socket.on('data', (more) => self.take(more));
          self.take(head.subarray(end + 4));
          resolve(Number(head.toString('latin1').split(' ')[1]));
        };
        self.socket.on('data', first);
        self.socket.on('close', () => resolve(0));
      });
      self.socket.write(`${lines.join('\r\n')}\r\n\r\n`);
      self.status = await status;
      return self;
    }
    take(piece) {
      this.received += piece.length;
      this.parts.push(piece);
      const size = this.parts.reduce((n, p) => n + p.length, 0);
      if (this.need && size < this.need) return;
      this.raw = Buffer.concat(this.parts);
      this.parts = [];
      this.need = 0;
      for (;;) {
        const raw = this.raw;
        if (raw.length < 2) break;
        let length = raw[1] & 127,
          at = 2;
        if (length === 126) {
          if (raw.length < 4) break;
          length = raw.readUInt16BE(2);
          at = 4;
        } else if (length === 127) {
          if (raw.length < 10) break;
          length = Number(raw.readBigUInt64BE(2));
          at = 10;
        }
        if (raw.length < at + length) {
          this.need = at + length;
          break;
        }
        const opcode = raw[0] & 15,
          body = raw.subarray(at, at + length);
        this.raw = raw.subarray(at + length);
        if (opcode === 1) this.message(body);
        else if (opcode === 8) this.closeCode = body.length >= 2 ? body.readUInt16BE(0) : 1005;
        else if (opcode === 10) this.pongs = (this.pongs || 0) + 1;
      }
      if (this.raw.length) this.parts = [this.raw];
    }
    message(body) {
      const message = JSON.parse(body.toString());
      if (message.id !== undefined && this.waiting.has(message.id)) {
        const done = this.waiting.get(message.id);
        this.waiting.delete(message.id);
        return done(message);
      }
      if (message.method) {
        this.count = (this.count || 0) + 1;
        if (this.events.length < 5000) this.events.push(message);
      } else this.bad.push(message);
      for (const look of this.listeners) look(message);
    }
    frame(opcode, body, { fin = true, masked = true, rsv = 0, length } = {}) {
      body = Buffer.isBuffer(body) ? body : Buffer.from(body);
      const size = length ?? body.length;
      let head;
      if (size < 126) head = Buffer.from([0, size]);
      else if (size < 65536) {
        head = Buffer.alloc(4);
        head[1] = 126;
        head.writeUInt16BE(size, 2);
      } else {
        head = Buffer.alloc(10);
        head[1] = 127;
        head.writeBigUInt64BE(BigInt(size), 2);
      }
      head[0] = (fin ? 128 : 0) | (rsv << 4) | opcode;
      if (masked) head[1] |= 128;
      return this.socket.write(
        Buffer.concat(masked ? [head, Buffer.alloc(4), body] : [head, body]),
      );
    }
    text(text) {
      return this.frame(1, text);
    }
    send(method, params = {}, session) {
      const id = ++this.last;
      const answer = new Promise((resolve) => this.waiting.set(id, resolve));
      if (this.closed) return Promise.resolve({ error: { message: 'disconnected' } });
      this.text(JSON.stringify({ id, method, params, ...(session ? { sessionId: session } : {}) }));
      return answer;
    }
    // In short: the result, or the error's message.
    async ask(method, params, session) {
      const answer = await this.send(method, params, session);
      return answer.error ? answer.error.message : answer.result;
    }
    event(method, test = () => true) {
      const seen = this.events.find((e) => e.method === method && test(e));
      if (seen) return Promise.resolve(seen);
      return new Promise((resolve) =>
        this.listeners.push((m) => {
          if (m.method === method && test(m)) resolve(m);
        }),
      );
    }
    async page() {
      const { targetInfos } = await this.ask('Target.getTargets', {});
      const target = targetInfos.find((t) => t.type === 'page');
      this.target = target.targetId;
      return (await this.ask('Target.attachToTarget', { targetId: target.targetId, flatten: true }))
        .sessionId;
    }
    async value(expression, session) {
      const answer = await this.ask(
        'Runtime.evaluate',
        { expression, returnByValue: true, awaitPromise: true },
        session,
      );
      return answer.result ? answer.result.value : answer;
    }
    close() {
      this.socket.destroy();
    }
  }
  return Cdp;
})();
globalThis.pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// A promise's value, or a word when it takes too long.
globalThis.within = (ms, promise) =>
  Promise.race([promise, pause(ms).then(() => 'no answer in time')]);
