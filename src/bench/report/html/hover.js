// The page is whole without this: it only shows at once, and to a finger, what a browser shows of <title> in time.
'use strict';
(() => {
  const tip = document.createElement('div');
  tip.id = 'tip';
  tip.hidden = true;
  document.body.append(tip);
  for (const title of document.querySelectorAll('svg title')) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  const show = (event) => {
    const mark = event.target.closest ? event.target.closest('[data-tip]') : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const page = document.documentElement;
    const left = Math.min(event.pageX + 12, page.clientWidth - tip.offsetWidth - 4);
    tip.style.left = Math.max(4, left) + 'px';
    const above = event.pageY - tip.offsetHeight - 12;
    tip.style.top = (above > window.scrollY ? above : event.pageY + 18) + 'px';
  };
  document.addEventListener('pointermove', show);
  document.addEventListener('pointerdown', show);
  // What is folded on the screen is printed.
  window.addEventListener('beforeprint', () => {
    for (const folded of document.querySelectorAll('details')) folded.open = true;
  });
})();
