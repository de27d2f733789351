// In a world of its own in every frame of the page a person acts on: tells of what a picture does not
// show (the cursor, select lists) and does what was chosen. The page sees nothing of it.
(() => {
  if (globalThis.pagebox || typeof pageboxTell !== 'function') return;
  const MAX_OPTIONS = 2000;
  const MAX_LABEL = 300;
  const CURSOR_PAUSE = 50;
  const REWRITTEN_PAUSE = 200;
  const tell = (message) => pageboxTell(JSON.stringify(message));
  // Half a pair of surrogates, which a cut may leave too, is no text to who reads it.
  const cut = (text) =>
    (text.length > MAX_LABEL ? `${text.slice(0, MAX_LABEL)}…` : text).toWellFormed();
  const ending = new AbortController();
  const listeners = [];
  const listen = (name, listener) => listeners.push([name, listener]);

  let open = null;
  let last = 0;

  const opens = (select) =>
    select instanceof HTMLSelectElement && !select.disabled && !select.multiple && select.size <= 1;

  // Where a frame is in the page; unknown below a frame of another origin.
  const origin = () => {
    let [x, y] = [0, 0];
    for (let frame = window; frame !== frame.parent; frame = frame.parent) {
      const element = frame.frameElement;
      if (!element) return null;
      const box = element.getBoundingClientRect();
      x += box.x + element.clientLeft;
      y += box.y + element.clientTop;
    }
    return { x, y };
  };

  const show = (select, at) => {
    const box = select.getBoundingClientRect();
    let from = null;
    try {
      from = at ? null : origin();
    } catch {
      // A frame above is of another origin.
    }
    const options = [...select.options].slice(0, MAX_OPTIONS).map((option) => {
      const group =
        option.parentElement instanceof HTMLOptGroupElement ? option.parentElement : null;
      return {
        label: cut(option.label || option.text),
        group: group ? cut(group.label) : null,
        selected: option.selected,
        disabled: option.disabled || Boolean(group?.disabled),
      };
    });
    last += 1;
    open = { select, id: last };
    tell({
      select: {
        id: last,
        at,
        from,
        multiple: false,
        options,
        box: { x: box.x, y: box.y, width: box.width, height: box.height },
      },
    });
  };

  const close = () => {
    if (!open) return;
    open = null;
    tell({ select: null });
  };

  listen('mousedown', (event) => {
    const select = event.composedPath()[0];
    const owner = select instanceof HTMLOptionElement ? select.closest('select') : select;
    if (!event.isTrusted || event.button !== 0 || !opens(owner)) return close();
    event.preventDefault();
    owner.focus();
    show(owner, { x: event.clientX, y: event.clientY });
  });

  listen('keydown', (event) => {
    const select = event.composedPath()[0];
    if (!event.isTrusted || !opens(select)) return;
    const arrow = event.altKey && (event.key === 'ArrowDown' || event.key === 'ArrowUp');
    if (!arrow && event.key !== ' ' && event.key !== 'Enter' && event.key !== 'F4') return;
    event.preventDefault();
    show(select, null);
  });

  listen('pagehide', close);

  let shown = '';
  let quietUntil = 0;
  let later = 0;
  const cursorOf = (element) => {
    if (!(element instanceof Element)) return 'default';
    const named = getComputedStyle(element).cursor.split(',').pop().trim();
    if (named !== 'auto') return named;
    const writable = element.closest(
      'input, textarea, [contenteditable]:not([contenteditable=false])',
    );
    return writable || element.isContentEditable ? 'text' : 'default';
  };
  const look = (element) => {
    const cursor = cursorOf(element);
    if (cursor === shown) return;
    shown = cursor;
    tell({ cursor });
  };
  listen('mousemove', (event) => {
    const element = event.composedPath()[0];
    const now = performance.now();
    clearTimeout(later);
    if (now < quietUntil) {
      later = setTimeout(() => look(element), quietUntil - now);
      return;
    }
    quietUntil = now + CURSOR_PAUSE;
    look(element);
  });

  const attach = () => {
    for (const [name, listener] of listeners)
      addEventListener(name, listener, { capture: true, signal: ending.signal });
  };
  attach();
  // A page that writes itself anew (document.open) takes away who listens. An observer would see it at
  // once, and make each change of a deep page slow.
  let root = document.documentElement;
  const looking = setInterval(() => {
    if (root === document.documentElement) return;
    root = document.documentElement;
    attach();
  }, REWRITTEN_PAUSE);

  globalThis.pagebox = {
    choose(id, index) {
      if (open?.id !== id) return;
      const { select } = open;
      open = null;
      if (index === null || !select.isConnected || select.disabled) return;
      const option = select.options[index];
      if (!option || option.disabled || select.selectedIndex === index) return;
      select.selectedIndex = index;
      select.dispatchEvent(new Event('input', { bubbles: true, composed: true }));
      select.dispatchEvent(new Event('change', { bubbles: true }));
    },
    selected() {
      const element = document.activeElement;
      if (element instanceof HTMLIFrameElement || !document.hasFocus()) return '';
      if (element instanceof HTMLTextAreaElement || element instanceof HTMLInputElement) {
        if (element.type === 'password') return '';
        // Null for kinds of input that have no selection.
        if (element.selectionStart !== null && element.selectionStart !== element.selectionEnd) {
          return element.value.slice(element.selectionStart, element.selectionEnd).toWellFormed();
        }
      }
      return String(getSelection()).toWellFormed();
    },
    off() {
      ending.abort();
      clearTimeout(later);
      clearInterval(looking);
      delete globalThis.pagebox;
    },
  };
  tell({ here: true, top: window === window.parent });
})();
