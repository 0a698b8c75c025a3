// The search runs in a worker, which browsers do not start for pages that are files: there a hidden frame takes its place.
if (location.protocol === "file:") {
  const importScripts = function (...urls) {
    const load = (url) =>
      new Promise((loaded, failed) => {
        const script = Object.assign(document.createElement("script"), { src: url, onload: loaded, onerror: failed });
        document.body.append(script);
      });
    return urls.reduce((before, url) => before.then(() => load(url)), Promise.resolve());
  };
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true });
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source === inside) {
          this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        }
      });
      const head = `importScripts = ${importScripts}; postMessage = (data) => parent.postMessage(data, "*");`;
      inside.document.open();
      inside.document.write(`<body><script>${head}<\/script><script src="${url}"><\/script></body>`);
      inside.document.close();
      this.started = new Promise((started) => inside.addEventListener("load", started));
    }

    postMessage(data) {
      this.started.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
