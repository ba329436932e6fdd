// A browser starts no workers for pages that are opened as files. The site's search is one: there it runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = Object.assign(document.createElement("iframe"), { hidden: true })
      document.body.append(this.frame)
      this.inside = this.frame.contentWindow
      this.inside.document.open()
      this.inside.document.write("<body></body>")
      this.inside.document.close()
      this.inside.postMessage = (data) => this.onmessage?.({ data })
      this.ready = new Promise((loaded, failed) => {
        const script = this.inside.document.createElement("script")
        this.inside.document.body.append(Object.assign(script, { src: url, onload: loaded, onerror: failed }))
      })
    }

    postMessage(data) {
      this.ready.then(() => this.inside.onmessage({ data }), () => this.onerror?.())
    }

    terminate() {
      this.frame.remove()
    }
  }
}
