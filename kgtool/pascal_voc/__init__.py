"""What Pascal VOC's files say: annotations in XML, lists of images, photographs."""
