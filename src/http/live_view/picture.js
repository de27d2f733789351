// @ts-check
/**
 * The canvas: decodes pictures, draws the newest, fits it into its frame, and knows which point of
 * the page is where on the screen. It does not know where pictures come from.
 *
 * At most one picture is being decoded and one waits; a newer one takes the waiting one's place.
 */

/** Bytes before the image, see the protocol. */
const HEADER = 16;
/** By the header's format byte. */
const FORMATS = ['', 'image/jpeg', 'image/webp'];

/** @typedef {{number: number, width: number, height: number, image: Blob}} Frame */

export class Picture {
  /** Of the page's viewport that is shown, in its CSS pixels; 0 before the first picture. */
  width = 0;
  height = 0;
  #canvas;
  #frame;
  #context;
  #drawn;
  /** @type {Frame | undefined} */
  #waiting;
  #isBusy = false;
  /** Tells pictures of this connection from those of the last one, whose numbers mean nothing now. */
  #connection = 0;
  /** Likewise of pages. */
  #page = 0;
  #count = 0;
  #countedAt = performance.now();

  /**
   * @param {HTMLCanvasElement} canvas @param {HTMLElement} frame what it is to fit in
   * @param {(number: number) => void} drawn called with the number of each picture once it is seen
   */
  constructor(canvas, frame, drawn) {
    this.#canvas = canvas;
    this.#frame = frame;
    this.#drawn = drawn;
    this.#context = canvas.getContext('2d', { alpha: false });
  }

  /** @param {ArrayBuffer} bytes */
  show(bytes) {
    this.#waiting = parse(bytes);
    if (!this.#isBusy) this.#work();
  }

  /** A new connection begins: what still waits is of the last one. The last picture stays to be seen. */
  restart() {
    this.#waiting = undefined;
    this.#connection += 1;
  }

  /** Another page is shown, which the last picture is not of. */
  blank() {
    this.#waiting = undefined;
    this.#page += 1;
    this.#canvas.toggleAttribute('data-blank', true);
  }

  /** Pictures drawn per second since the last call. */
  rate() {
    const now = performance.now();
    const rate = (this.#count * 1000) / Math.max(now - this.#countedAt, 1);
    this.#count = 0;
    this.#countedAt = now;
    return rate;
  }

  /** The canvas as large as the frame lets it be, in the middle, in the page's proportions. */
  fit() {
    if (this.width === 0 || this.height === 0) return;
    const { clientWidth, clientHeight } = this.#frame;
    const scale = Math.min(clientWidth / this.width, clientHeight / this.height);
    this.#canvas.style.width = `${Math.max(this.width * scale, 1)}px`;
    this.#canvas.style.height = `${Math.max(this.height * scale, 1)}px`;
  }

  /** Pixels of the screen for one of the page. */
  get scale() {
    return this.width === 0 ? 1 : this.#canvas.getBoundingClientRect().width / this.width;
  }

  /**
   * The page's point under one of the window's; the nearest one when that lies outside, as in a drag.
   * @param {{clientX: number, clientY: number}} point
   */
  toPage({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    return {
      x: within(((clientX - left) * this.width) / width, this.width),
      y: within(((clientY - top) * this.height) / height, this.height),
    };
  }

  /**
   * A box of the page in the frame's coordinates.
   * @param {{x: number, y: number, width: number, height: number}} box
   */
  toFrame(box) {
    const outer = this.#frame.getBoundingClientRect();
    const { left, top } = this.#canvas.getBoundingClientRect();
    const scale = this.scale;
    return {
      x: left - outer.left + box.x * scale,
      y: top - outer.top + box.y * scale,
      width: box.width * scale,
      height: box.height * scale,
    };
  }

  async #work() {
    this.#isBusy = true;
    while (this.#waiting) {
      const connection = this.#connection;
      const page = this.#page;
      const frame = this.#waiting;
      this.#waiting = undefined;
      // An image that is none is left out and still acknowledged, or no other would come.
      const bitmap = await createImageBitmap(frame.image).catch(() => undefined);
      await nextAnimationFrame();
      if (bitmap && page === this.#page) this.#draw(bitmap, frame);
      if (connection === this.#connection) this.#drawn(frame.number);
    }
    this.#isBusy = false;
  }

  /** @param {ImageBitmap} bitmap @param {Frame} frame */
  #draw(bitmap, { width, height }) {
    const canvas = this.#canvas;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
    this.#context?.drawImage(bitmap, 0, 0);
    bitmap.close();
    canvas.toggleAttribute('data-blank', false);
    this.#count += 1;
    if (width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    this.fit();
  }
}

/** @param {ArrayBuffer} bytes @returns {Frame} */
function parse(bytes) {
  const header = new DataView(bytes, 0, HEADER);
  const type = FORMATS[header.getUint8(8)] ?? '';
  return {
    number: header.getUint32(0),
    width: header.getUint16(4),
    height: header.getUint16(6),
    image: new Blob([new Uint8Array(bytes, HEADER)], { type }),
  };
}

/** Hundredths are fine enough, and short. @param {number} value @param {number} most */
function within(value, most) {
  return Math.round(Math.min(Math.max(value || 0, 0), most) * 100) / 100;
}

/** None come while the page is hidden, so nothing is drawn or acknowledged then. */
function nextAnimationFrame() {
  return new Promise((go) => requestAnimationFrame(go));
}
